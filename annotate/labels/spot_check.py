"""The blind comparisons that a training run asks people for (docs/people-in-ppo.md), kept apart like a campaign.

A spot check's pairs show whether people still prefer the policy. They are neither exported nor learnt from unless
`export.campaign` names them. Each is judged once: another pair says more than a second opinion of the same one.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from annotate.config import AnnotateConfig
from annotate.intake.items import load_items
from annotate.intake.load import audit_path
from annotate.labels.notices import put_notice
from annotate.store.database import Store
from annotate.store.files import files_of
from annotate.store.statements import Transaction
from workbench.data.readers import read_items
from workbench.data.records import Item
from workbench.run.checkpoints import write_text_atomically
from workbench.run.outputs import check_outputs

LONGEST_NAME = 200
"""Characters of a campaign's name, which the store limits."""


def spot_check(store: Store, config: AnnotateConfig, file: str, *, run: str, out: Path, notice: str | None) -> str:
    """Load the pairs that the store does not have yet, and write the judgements of all of them.

    Judgements of people count; with `export.who=simulated` those of simulated annotators instead. Of several
    judgements of a pair the first one counts, unless a reviewer has ruled on it.

    Args:
        store: of the labels.
        config: the section `queue` says what is masked, `export` whose judgements count.
        file: items of two answers.
        run: name of the training run.
        out: JSON lines `item`, `strength` (−3 … 3, in the order of the item's answers; 0 for a tie or both bad) and
            `at` (seconds since 1970), in the order of the judgements.
        notice: for the lead; empty: takes back an earlier one. None: leaves it.

    Returns: a line about it.

    Raises:
        WorkbenchError: `file` is bad, or `out` is `file` or a file of the store.
    """
    check_outputs({"--out": out}, [Path(file), *(files_of(store.path) if store.path else ())], remedy="another --out")
    rules = config.row_rules
    items = read_items(file, rules)
    rules.write_masked(audit_path(store))
    queue = config.queue.model_copy(update={"overlap_share": 0.0})
    name = campaign_of(run)
    loaded = load_items(store, items, queue, source=file, campaign=name)
    with store.write() as transaction:
        rows = judged(transaction, items, simulated=config.export.who == "simulated")
        if notice is not None:
            put_notice(transaction, run, notice)
    write_text_atomically(out, "".join(json.dumps(row) + "\n" for row in rows))
    return f"{name}: {loaded}; {len(rows):,} of {len(items):,} pairs are judged"


def campaign_of(run: str) -> str:
    """The campaign that owns the pairs of a run."""
    return f"spot checks of {run}"[:LONGEST_NAME]


def judged(transaction: Transaction, items: Sequence[Item], *, simulated: bool) -> list[dict[str, Any]]:
    """The first judgement of each item that has one, in the order in which they were made."""
    found = transaction.judgements_of([item.id for item in items], simulated=simulated)
    rulings = {pk: ruling for pk, ruling in transaction.adjudications().items() if ruling.choice != "withdrawn"}
    rows: dict[str, dict[str, Any]] = {}
    for item_id, judgement in found:
        ruling = rulings.get(judgement.item)
        if item_id in rows or (ruling is not None and ruling.choice not in ("compared", "both_bad")):
            continue  # a reviewer left the pair out
        strength = judgement.strength if ruling is None else ruling.strength
        rows[item_id] = {"item": item_id, "strength": strength or 0, "at": judgement.created_at}
    return list(rows.values())
