"""Priorities from a file: which items are handed out first, and which are asked about once more.

One JSON object a line, as `python -m reward acquire` and `python -m reward explain --relabel` write them: `id` of an
item, `priority` (higher ones first), and `again: true` for an item that is to get one judgement more than it has.
Reading a file twice changes nothing more. Knows the store, no reward model.
"""

from dataclasses import dataclass

from annotate.store.database import Store
from workbench.data.sources import Row, read_rows


@dataclass(frozen=True)
class Priority:
    """One line of the file."""

    item_id: str
    value: float
    again: bool


def read_priorities(path: str) -> list[Priority]:
    """The lines of a file of priorities.

    Raises:
        WorkbenchError: the file or a line of it is bad.
    """
    return [_priority(row) for row in read_rows(path)]


def apply_priorities(store: Store, path: str) -> str:
    """Give items the priorities of a file, and open those that are asked about again; returns what was done.

    Raises:
        WorkbenchError: the file is bad, or the store holds none of its items.
    """
    priorities = read_priorities(path)
    again = [entry.item_id for entry in priorities if entry.again]
    with store.write() as transaction:
        known = transaction.fingerprints([entry.item_id for entry in priorities])
        if not known:
            raise Row(path).fail(
                f"the store {store.place} holds none of its {len(priorities)} items",
                expected="ids of items that were loaded",
                remedy="load the items first: python -m annotate load CONFIG.yaml FILE",
            )
        transaction.set_priorities({entry.item_id: entry.value for entry in priorities if entry.item_id in known})
        transaction.ask_again([name for name in again if name in known])
    opened = sum(name in known for name in again)
    missing = len({entry.item_id for entry in priorities}) - len(known)
    unknown = f"; {missing:,} items of the file are not in the store" if missing else ""
    return f"{len(known):,} items have a new priority, {opened:,} of them are asked about again{unknown}"


def _priority(row: Row) -> Priority:
    if row.error is not None:
        raise row.error
    name, value, again = row.fields.get("id"), row.fields.get("priority"), row.fields.get("again", False)
    if not isinstance(name, str) or isinstance(value, bool) or not isinstance(value, int | float):
        raise row.fail(f"no priority: {str(row.fields)[:60]}", expected='{"id": "an item\'s id", "priority": 1.5}')
    if not isinstance(again, bool):
        raise row.fail(f"'again' is {again!r}", expected="true or false")
    return Priority(name, float(value), again)
