"""Priorities from a file: which items are handed out first, and which are asked about once more.

One JSON object a line, as `python -m reward acquire` and `python -m reward explain --relabel` write them: `id` of an
item, `priority` (higher ones first), and `again: true` for an item that is to get one judgement more than it has.
Reading a file twice changes nothing more. Knows the store, no reward model.
"""

import re
from dataclasses import dataclass

from annotate.store.database import Store
from workbench.data.files.row import Row
from workbench.data.files.rows import read_rows

_OF_A_RANKING = re.compile(r":\d+-\d+$")
"""Ends the id of two answers of an item that has more than two."""


@dataclass(frozen=True)
class Priority:
    """One line of the file."""

    item_id: str
    value: float
    again: bool
    prompt: str = ""
    """What the item asks, where the file says it."""


@dataclass(frozen=True)
class Applied:
    """What reading a file of priorities did."""

    items: int
    """That have a new priority."""
    again: int
    """Of them, those that are asked about again."""
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

    Two answers of a ranking are an item of their own where the store compares them so, else a part of the ranked item.

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
    if not isinstance(again, bool):
        raise row.fail(f"'again' is {again!r}", expected="true or false")
    prompt = row.fields.get("prompt")
    return Priority(name, float(value), again, prompt if isinstance(prompt, str) else "")
