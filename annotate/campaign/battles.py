"""The arena's votes as a comparison of runs: which items they are, and which run gave which answer.

Unlike the items of a campaign, which come from held-out prompts, they are ordinary items: they are exported as
preferences without being asked for.
"""

from collections.abc import Mapping, Sequence

from annotate.store.statements import StoredItem, StoredResponse, Transaction
from workbench.data.records import Item, Message, Response, prompt_id

ARENA = "arena"
"""The name under which all battles of a store are reported; no campaign may have it."""
OPENED = "arena opened"
"""Event: an arena was opened, with its `runs`."""
_START = f"{ARENA}-"


def arena_item(battle: str, prompt: Sequence[Message], answers: Sequence[Response]) -> Item:
    """The item of a battle's vote. Conversations that begin alike are one group, and so stay in one split."""
    return Item(id=_START + battle, group=prompt_id(prompt[:1]), prompt=tuple(prompt), responses=tuple(answers))


def is_battle(item: StoredItem) -> bool:
    """Whether an item is a vote of the arena."""
    return item.campaign is None and item.item_id.startswith(_START)


def opened_runs(transaction: Transaction) -> list[str]:
    """The runs that an arena of this store was ever opened with, in the order of their first time."""
    details = [event["detail"] for event in transaction.events() if event["kind"] == OPENED]
    return list(dict.fromkeys(run for detail in details for run in detail["runs"]))


def answers_of_runs(
    items: Sequence[StoredItem], responses: Mapping[int, Sequence[StoredResponse]]
) -> tuple[list[str], dict[str, list[int | None]]]:
    """The runs that have a vote, and per item the position of each run's answer; None: it did not take part."""
    voted = {item.item_id: [response.run for response in responses[item.id]] for item in items}
    runs = list(dict.fromkeys(run for own in voted.values() for run in own))
    return runs, {name: [own.index(run) if run in own else None for run in runs] for name, own in voted.items()}
