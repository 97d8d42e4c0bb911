"""What an annotator is asked, as the queue hands it out: texts in the order of the display, no sources."""

import json
from dataclasses import dataclass
from typing import Any

from annotate.queue.submission import as_shown, order_of
from annotate.store.statements import Annotator, Assignment, StoredItem, Transaction


@dataclass(frozen=True)
class Answer:
    """One of a card's answers."""

    text: str
    ended: bool
    """Whether the model stopped by itself (not shown)."""


@dataclass(frozen=True)
class Card:
    """What an annotator is asked: to compare two answers, or to rank more."""

    item: int
    """Key of the item in the store."""
    item_id: str
    prompt: list[dict[str, str]]
    """Messages."""
    answers: tuple[Answer, ...]
    """In the order of the display: left and right, or places 0, 1, 2 …"""
    previous: dict[str, Any] | None = None
    """The earlier answer, as shown then (`annotate.queue.submission.as_shown`); None for a new card."""

    @property
    def left(self) -> Answer:
        """The first of two answers."""
        return self.answers[0]

    @property
    def right(self) -> Answer:
        """The second of two answers."""
        return self.answers[1]


@dataclass(frozen=True)
class Nothing:
    """There is no item for this annotator now."""

    reason: str


def make_card(transaction: Transaction, who: Annotator, item: StoredItem, given: Assignment) -> Card:
    """The card of an item that was given to somebody."""
    responses = transaction.responses(item.id)
    answers = tuple(
        Answer(responses[position].text, responses[position].ended) for position in order_of(given, len(responses))
    )
    # A withdrawn answer stands one revision before its withdrawal.
    revision = given.revision - 1 if given.state == "leased" else given.revision
    previous = None
    if revision > 0:
        before = transaction.judgement(item.id, who.id, revision)
        assert before is not None  # revisions have no gaps
        previous = as_shown(before, given, len(answers))
    return Card(item.id, item.item_id, json.loads(item.prompt), answers, previous)


def why_nothing(transaction: Transaction, who: Annotator) -> str:
    """Why this annotator is given nothing."""
    if not who.active:
        return "your account is paused. What you have judged is kept; ask whoever leads the labelling."
    count, _, _ = transaction.totals(simulated=who.simulated)
    if count == 0:
        return "no pairs have been loaded yet."
    unfinished, had = transaction.open_items(who)
    if unfinished == 0:
        return f"all {count:,} pairs have the judgements they need."
    if had == unfinished:
        pairs = "pair that is still open waits" if had == 1 else f"{had:,} pairs that are still open wait"
        return f"the {pairs} for other people: you have judged or skipped what there was for you."
    waiting = unfinished - had
    pairs = "last open pair is" if waiting == 1 else f"last {waiting:,} open pairs are"
    return f"the {pairs} before other people just now. What they do not judge comes back: look in again later."
