"""Every judgement as it was made, including withdrawn and superseded ones. `annotate.labels.export` has preferences."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from annotate.config import Names
from annotate.labels.pseudonyms import pseudonyms
from annotate.store.database import Store
from annotate.store.files import files_of
from annotate.store.statements import Annotator
from workbench.data.readers import write_records
from workbench.run.outputs import check_outputs

_JSON = ("ranking", "rubric", "display_order", "reasons", "spans")


def raw_judgements(store: Store, *, names: Names = "plain") -> Iterator[dict[str, Any]]:
    """One record per revision, oldest first; strengths, ranks and spans are in the order of the item's answers.

    `current`: the newest revision of its annotator and item. `surplus`: beyond the item's overlap.
    """
    shown = pseudonyms(store) if names == "hash" else str
    with store.read() as transaction:
        for row in transaction.all_judgements():
            record = {name: value for name, value in row.items() if name not in ("id", "client_key")}
            record["annotator"] = shown(record["annotator"])
            for name in _JSON:
                record[name] = json.loads(record[name]) if record[name] else None
            for name in ("current", "surplus", "swapped", "simulated", "differences_shown"):
                record[name] = bool(record[name])
            yield record


def export_raw(store: Store, out: Path, *, names: Names = "plain") -> int:
    """Write all judgements as JSON lines (atomic); returns their number.

    Raises:
        WorkbenchError: `out` is a file of the store.
    """
    check_outputs({"--raw": out}, files_of(store.path) if store.path else (), remedy="--raw ANOTHER.jsonl")
    records = list(raw_judgements(store, names=names))
    write_records(out, records, private=True)
    note_export(store, str(out))
    return len(records)


def note_export(store: Store, target: str, by: Annotator | None = None) -> None:
    """Record in the audit trail that the judgements were exported."""
    with store.write() as transaction:
        transaction.add_event("raw judgements exported", time.time(), by.id if by else None, out=target)
