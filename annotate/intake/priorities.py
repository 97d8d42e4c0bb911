"""Priorities from a file: which items are handed out first, and which are asked about again.

One JSON object per line, as `python -m reward acquire` and `python -m reward explain --relabel` write them: `id` of an
item, `priority` (higher ones first), and `again: true` for an item that needs one more judgement than it has.
Applying a file twice changes nothing more. Knows the store, no reward model.
"""

import re
import sys
from dataclasses import dataclass

from annotate.store.database import Store
from workbench.data.files.row import Row
from workbench.data.files.rows import read_rows

MOST = sys.float_info.max
_OF_A_RANKING = re.compile(r":\d+-\d+$")
"""The end of the id of a pair made from an item with more than two answers."""


@dataclass(frozen=True)
class Priority:
    """One line of the file."""

    item_id: str
    value: float
    again: bool
    prompt: str = ""
    """The item's prompt, if the file has it."""


@dataclass(frozen=True)
class Applied:
    """The result of applying a file of priorities."""

    items: int
    """Items with a new priority."""
    again: int
    """Items among them that are asked about again."""
    missing: int
    """Lines whose item is not in the store."""

    def __str__(self) -> str:
        unknown = f"; {self.missing:,} items of the file are not in the store" if self.missing else ""
        return f"{self.items:,} items have a new priority, {self.again:,} of them are asked about again{unknown}"


def read_priorities(path: str) -> list[Priority]:
    """The lines of a file of priorities.

    Raises:
        WorkbenchError: the file or a line of it is bad.
    """
    return [_priority(row) for row in read_rows(path)]


def apply_priorities(store: Store, path: str) -> Applied:
    """Give items the priorities of a file, and open those that are asked about again.

    A pair from a ranking is looked up as its own item first, then as part of the item whose answers are ranked.

    Raises:
        WorkbenchError: the file is bad, or the store holds none of its items.
    """
    priorities = read_priorities(path)
    with store.write() as transaction:
        whole = {entry.item_id: _OF_A_RANKING.sub("", entry.item_id) for entry in priorities}
        held = transaction.fingerprints(list(dict.fromkeys([*whole, *whole.values()])))
        named = {name: name if name in held else ranked for name, ranked in whole.items()}
        if not held:
            raise Row(path).fail(
                f"the store {store.place} holds none of its {len(priorities)} items",
                expected="ids of items that were loaded",
                remedy="load the items first: python -m annotate load CONFIG.yaml FILE",
            )
        wanted: dict[str, float] = {}
        for entry in priorities:
            name = named[entry.item_id]
            if name in held:
                wanted[name] = max(entry.value, wanted.get(name, entry.value))
        again = dict.fromkeys(named[entry.item_id] for entry in priorities if entry.again)
        opened = [name for name in again if name in held]
        transaction.set_priorities(wanted)
        transaction.ask_again(opened)
    missing = sum(name not in held for name in named.values())
    return Applied(len(wanted), len(opened), missing)


def _priority(row: Row) -> Priority:
    if row.error is not None:
        raise row.error
    name, value, again = row.fields.get("id"), row.fields.get("priority"), row.fields.get("again", False)
    if not isinstance(name, str) or isinstance(value, bool) or not isinstance(value, int | float):
        raise row.fail(f"no priority: {str(row.fields)[:60]}", expected='{"id": "an item\'s id", "priority": 1.5}')
    if not -MOST <= value <= MOST:  # NaN is not either
        raise row.fail(f"'priority' is {str(value)[:30]}", expected="a finite number")
    if not isinstance(again, bool):
        raise row.fail(f"'again' is {again!r}", expected="true or false")
    prompt = row.fields.get("prompt")
    return Priority(name, float(value), again, prompt if isinstance(prompt, str) else "")
