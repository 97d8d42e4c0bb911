"""The card that the queue hands to an annotator: texts in the order of the display, without their sources."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from annotate.queue.submission import as_shown, order_of
from annotate.store.statements import Annotator, Assignment, StoredItem, StoredResponse, Transaction


@dataclass(frozen=True)
class Answer:
    """One of a card's answers."""

    text: str
    ended: bool
    """Whether the model stopped by itself (not shown)."""


@dataclass(frozen=True)
class Lesson:
    """What a training item teaches."""

    strength: int
    """The right answer, in the order of the display."""
    why: str
    number: int
    """Place among the training items, from 1."""
    count: int
    """All training items."""


@dataclass(frozen=True)
class Card:
    """Two answers to compare, or more to rank."""

    item: int
    """Key of the item in the store."""
    item_id: str
    prompt: list[dict[str, str]]
    """Messages."""
    answers: tuple[Answer, ...]
    """In the order of the display: left and right, or from top to bottom."""
    previous: dict[str, Any] | None = None
    """The earlier judgement (`annotate.queue.submission.as_shown`); None for a new card."""
    starred: bool = False
    lesson: Lesson | None = None
    """Of a training item; None for all others."""

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
    """Why there is no item for this annotator now."""

    why: Literal["paused", "no_items", "all_done", "for_others", "before_others"]
    """A key: the page's texts hold the sentence for it (`nothing.…`).

    `for_others`: this annotator has judged or skipped every item that is still open.
    `before_others`: the last open items are leased to others.
    """
    count: int = 0
    """Number of items: all of them (`all_done`), or those still open."""


def make_card(
    transaction: Transaction, who: Annotator, item: StoredItem, given: Assignment, responses: Sequence[StoredResponse]
) -> Card:
    """The card of an item that was given to somebody; `responses` in the item's own order."""
    answers = tuple(
        Answer(responses[position].text, responses[position].ended) for position in order_of(given, len(responses))
    )
    # The withdrawal itself is a revision, so the withdrawn judgement is the one before it.
    revision = given.revision - 1 if given.state == "leased" else given.revision
    previous = None
    if revision > 0:
        before = transaction.judgement(item.id, who.id, revision)
        assert before is not None  # revisions have no gaps
        previous = as_shown(before, given, len(answers))
    lesson = _lesson(transaction, item, given) if item.kind == "training" else None
    return Card(item.id, item.item_id, json.loads(item.prompt), answers, previous, given.starred, lesson)


def _lesson(transaction: Transaction, item: StoredItem, given: Assignment) -> Lesson:
    assert item.known_strength is not None  # checked when it was loaded
    shown = -item.known_strength if given.swapped else item.known_strength
    return Lesson(shown, item.why or "", *transaction.place_in_training(item.id))


def why_nothing(transaction: Transaction, who: Annotator) -> Nothing:
    """Why this annotator gets no item."""
    if not who.active:
        return Nothing("paused")
    unfinished = transaction.unfinished(simulated=who.simulated)
    if unfinished == 0:
        count, _, _ = transaction.totals(simulated=who.simulated)
        return Nothing("all_done", count) if count else Nothing("no_items")
    had = transaction.unfinished_had(who)
    return Nothing("for_others", had) if had == unfinished else Nothing("before_others", unfinished - had)
