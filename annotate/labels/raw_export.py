"""Every judgement as it was made, withdrawn and superseded ones too. Preferences are `annotate.labels.export`'s."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from annotate.store.database import Store
from annotate.store.statements import Annotator
from workbench.data.readers import write_records

_JSON = ("ranking", "rubric", "display_order")


def raw_judgements(store: Store) -> Iterator[dict[str, Any]]:
    """One record a revision, in the order of making; everything in the order of the item's answers.

    `current`: the newest of its annotator and item. `surplus`: beyond the item's overlap.
    """
    with store.read() as transaction:
        for row in transaction.all_judgements():
            record = {name: value for name, value in row.items() if name not in ("id", "client_key")}
            for name in _JSON:
                record[name] = json.loads(record[name]) if record[name] else None
            for name in ("current", "surplus", "swapped", "simulated"):
                record[name] = bool(record[name])
            yield record


def export_raw(store: Store, out: Path) -> int:
    """Write all of them as JSON lines (atomic); returns how many."""
    records = list(raw_judgements(store))
    write_records(out, records, private=True)
    note_export(store, str(out))
    return len(records)


def note_export(store: Store, place: str, by: Annotator | None = None) -> None:
    """Put into the audit trail that the judgements went out."""
    with store.write() as transaction:
        transaction.add_event("raw judgements exported", time.time(), by.id if by else None, out=place)
