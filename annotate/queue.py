"""The rules of the queue: who is given which item, and what becomes of an answer. Page, API and simulation use it.

Each call is one transaction. A lease keeps an item for the annotator who opened it; what is judged plus what is
leased never exceeds an item's overlap, and nobody is given an item again that they judged or skipped.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from annotate.items import unit_hash
from annotate.statements import Annotator, Assignment, StoredItem, Transaction
from annotate.store import Store

Choice = Literal["compared", "both_bad", "skipped"]
_STATES = {"compared": "done", "both_bad": "done", "skipped": "skipped"}


class Refused(Exception):
    """An answer that cannot be taken: not this annotator's item, or a value out of range."""


@dataclass(frozen=True)
class Answer:
    """One side of a card."""

    text: str
    ended: bool
    """Whether the model stopped by itself (not shown)."""


@dataclass(frozen=True)
class Card:
    """What an annotator is asked."""

    item: int
    """Key of the item in the store."""
    item_id: str
    prompt: list[dict[str, str]]
    """Messages."""
    left: Answer
    right: Answer
    previous: dict[str, Any] | None = None
    """`choice` and `strength` (as shown) of the answer that was withdrawn; None for a new card."""


@dataclass(frozen=True)
class Nothing:
    """There is no item for this annotator now."""

    reason: str


@dataclass(frozen=True)
class Saved:
    """An answer is in the store."""

    item: int
    revision: int
    surplus: bool
    """Kept, but beyond the item's overlap: the lease had run out and others judged it."""
    repeated: bool
    """This client key had been stored before; nothing was written now."""


@dataclass(frozen=True)
class Progress:
    """How far the annotator and everybody are."""

    mine: int
    open_for_me: int
    given: int
    wanted: int


class Queue:
    """The queue of one store."""

    def __init__(
        self, store: Store, *, lease_seconds: float, seed: int = 0, clock: Callable[[], float] = time.time
    ) -> None:
        self.store, self.lease_seconds, self._seed, self._clock = store, lease_seconds, seed, clock

    def next(self, who: Annotator) -> Card | Nothing:
        """The card to answer now: the annotator's own live lease first, renewed; else a new one."""
        now = self._clock()
        with self.store.write() as transaction:
            given = transaction.live_lease(who.id, now)
            if given is not None:
                transaction.put_assignment(given._replace(expires_at=now + self.lease_seconds))
                item = transaction.item(given.item, simulated=who.simulated)
                assert item is not None  # a foreign key
                return _card(transaction, who, item, given)
            item = transaction.open_item(who, now)
            if item is None:
                return Nothing(_why_nothing(transaction, who))
            return _card(transaction, who, item, self._lease(transaction, who, item, now))

    def _lease(self, transaction: Transaction, who: Annotator, item: StoredItem, now: float) -> Assignment:
        expires = now + self.lease_seconds
        lapsed = transaction.assignment(item.id, who.id)
        if lapsed is not None:
            renewed = lapsed._replace(leased_at=now, expires_at=expires)
            transaction.put_assignment(renewed)
            return renewed
        swapped = unit_hash(self._seed, "sides", item.item_id, who.name) < 0.5
        transaction.add_lease(item.id, who, swapped=swapped, now=now, expires=expires)
        return Assignment(0, item.id, "leased", swapped, now, expires, 0, False)

    def submit(
        self,
        who: Annotator,
        item_pk: int,
        choice: Choice,
        *,
        client_key: str,
        strength: int | None = None,
        seconds: float | None = None,
        reason: str | None = None,
    ) -> Saved:
        """Store an answer; the same `client_key` again changes nothing. `strength`: -3 (left much better) … 3.

        Raises:
            Refused: the item was never given to this annotator, the key is somebody else's, or a bad value.
        """
        _check(choice, strength, client_key)
        now = self._clock()
        with self.store.write() as transaction:
            before = _stored(transaction, who, client_key)
            if before is not None:
                return before
            given = transaction.assignment(item_pk, who.id)
            if given is None:
                raise Refused("this item was not given to you")
            saved = self._after(transaction, who, given, choice, now)
            transaction.add_judgement(
                item=item_pk,
                annotator=who.id,
                revision=saved.revision,
                client_key=client_key,
                choice=choice,
                strength=_in_own_order(strength, given.swapped),
                swapped=given.swapped,
                seconds=seconds,
                reason=reason,
                created_at=now,
            )
            transaction.put_assignment(saved)
            change = _counts(saved) - _counts(given)
            if change:
                transaction.add_done(item_pk, change, simulated=who.simulated)
        return Saved(item_pk, saved.revision, saved.surplus, repeated=False)

    def _after(
        self, transaction: Transaction, who: Annotator, given: Assignment, choice: Choice, now: float
    ) -> Assignment:
        """The assignment as it stands once the answer is in."""
        state, surplus = _STATES[choice], given.surplus
        held = given.state == "done" or (given.state == "leased" and given.expires_at > now)
        if state == "done" and not held:
            item = transaction.item(given.item, simulated=who.simulated)
            assert item is not None
            leases = transaction.live_leases(given.item, simulated=who.simulated, now=now)
            surplus = item.done + leases >= item.overlap
        return given._replace(state=state, revision=given.revision + 1, surplus=surplus)

    def undo(self, who: Annotator, *, client_key: str) -> Card | None:
        """Withdraw the annotator's last answer and give the card back; None where there is none.

        The same `client_key` again gives the same card back without withdrawing another answer.
        """
        _check("skipped", None, client_key)
        now = self._clock()
        with self.store.write() as transaction:
            before = _stored(transaction, who, client_key)
            if before is None:
                last = transaction.newest_judgement(who.id)
                if last is None:
                    return None
                item_pk = last["item"]
                self._withdraw(transaction, who, item_pk, client_key, now)
            else:
                item_pk = before.item
            item = transaction.item(item_pk, simulated=who.simulated)
            given = transaction.assignment(item_pk, who.id)
            assert item is not None
            assert given is not None
            return _card(transaction, who, item, given)

    def _withdraw(self, transaction: Transaction, who: Annotator, item_pk: int, client_key: str, now: float) -> None:
        given = transaction.assignment(item_pk, who.id)
        assert given is not None
        # A surplus or skipped item is given back without a lease: it must not keep the item from others.
        lease = self.lease_seconds if _counts(given) else 0
        reopened = given._replace(state="leased", leased_at=now, expires_at=now + lease, revision=given.revision + 1)
        transaction.add_judgement(
            item=item_pk,
            annotator=who.id,
            revision=reopened.revision,
            client_key=client_key,
            choice="withdrawn",
            swapped=given.swapped,
            created_at=now,
        )
        transaction.put_assignment(reopened._replace(surplus=False))
        if _counts(given):
            transaction.add_done(item_pk, -1, simulated=who.simulated)
        transaction.add_event("withdrawn", now, who.id, item=item_pk, revision=given.revision)

    def progress(self, who: Annotator) -> Progress:
        """How far the annotator and everybody are."""
        with self.store.read() as transaction:
            unfinished, had = transaction.open_items(who)
            _, wanted, given = transaction.totals(simulated=who.simulated)
            return Progress(transaction.judged_by(who.id), unfinished - had, given, wanted)


def _check(choice: str, strength: int | None, client_key: str) -> None:
    if not 8 <= len(client_key) <= 64:
        raise Refused("client_key must be 8 to 64 characters long")
    if choice not in _STATES:
        raise Refused(f"choice must be one of {', '.join(_STATES)}, not {choice!r}")
    if (choice == "compared") != (strength is not None):
        raise Refused("a strength belongs to a comparison, and to nothing else")
    if strength is not None and not -3 <= strength <= 3:
        raise Refused(f"strength must lie in -3 … 3, not {strength}")


def _counts(given: Assignment) -> int:
    return int(given.state == "done" and not given.surplus)


def _in_own_order(strength: int | None, swapped: bool) -> int | None:
    """From sides to the order of the item's answers, and back."""
    return -strength if swapped and strength is not None else strength


def _stored(transaction: Transaction, who: Annotator, client_key: str) -> Saved | None:
    before = transaction.judgement_by_key(client_key)
    if before is None:
        return None
    if before["annotator"] != who.id:
        raise Refused("this client_key belongs to another annotator's answer")
    given = transaction.assignment(before["item"], who.id)
    assert given is not None
    return Saved(before["item"], before["revision"], given.surplus, repeated=True)


def _card(transaction: Transaction, who: Annotator, item: StoredItem, given: Assignment) -> Card:
    answers = [Answer(response.text, response.ended) for response in transaction.responses(item.id)]
    left, right = reversed(answers) if given.swapped else answers
    previous = None
    if given.revision >= 2:
        before = transaction.judgement(item.id, who.id, given.revision - 1)
        assert before is not None
        strength = _in_own_order(before["strength"], given.swapped)
        previous = {"choice": before["choice"], "strength": strength}
    return Card(item.id, item.item_id, json.loads(item.prompt), left, right, previous)


def _why_nothing(transaction: Transaction, who: Annotator) -> str:
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
