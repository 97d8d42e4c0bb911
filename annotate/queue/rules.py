"""The rules of the queue: who is given which item, and how judgements are stored. Page, API and simulation use it.

Each call is one transaction. A lease reserves an item for the annotator who opened it. Judgements plus leases never
exceed an item's overlap, and nobody is given an item that they judged or skipped again, except as a planted repeat.
"""

import json
import statistics
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from annotate.config import MOST_LEASES, QueueSection
from annotate.queue.cards import Answer, Card, Nothing, make_card, why_nothing
from annotate.queue.submission import Choice, Refused, Submission, check, check_key, in_own_order
from annotate.store.database import Store
from annotate.store.statements import Annotator, Assignment, GivenJudgement, StoredItem, Transaction
from workbench.data.hashing import unit_hash

__all__ = [
    "Answer",
    "Card",
    "Choice",
    "Nothing",
    "Progress",
    "Queue",
    "Refused",
    "Saved",
    "Submission",
]

_STATES = {"compared": "done", "ranked": "done", "both_bad": "done", "skipped": "skipped"}
_PACE_OVER = 50
"""Number of newest judgements that an annotator's pace is computed from."""


@dataclass(frozen=True)
class Saved:
    """What was stored for a submission."""

    item: int
    revision: int
    surplus: bool
    """Stored, but beyond the item's overlap: the lease had expired and others judged the item."""
    repeated: bool
    """This client key was stored before; nothing was written now."""


@dataclass(frozen=True)
class Progress:
    """An annotator's progress."""

    mine: int
    """Items judged."""
    open_for_me: int
    """Open items that this annotator has neither judged nor skipped."""
    seconds_each: float | None
    """Median time of the annotator's newest judgements; None without any."""


class Queue:
    """The queue of one store."""

    def __init__(self, store: Store, section: QueueSection, *, clock: Callable[[], float] = time.time) -> None:
        self.store, self.section, self._clock = store, section, clock

    def next(self, who: Annotator) -> Card | Nothing:
        """The card to answer now: the annotator's open one, its lease renewed, or else a new one."""
        return self._card(who, ())

    def ahead(self, who: Annotator, known: Collection[int] | None = None) -> Card | Nothing:
        """A card after the open one, leased in advance so that it can be shown without waiting.

        `known`: items of the cards that the caller has; None: the open one. At most `MOST_LEASES` are held at a time.
        """
        return self._card(who, known)

    def _card(self, who: Annotator, known: Collection[int] | None) -> Card | Nothing:
        now = self._clock()
        with self.store.write() as transaction:
            transaction.lock_annotator(who.id)
            live = transaction.live_leases_of(who.id, now)
            if live:
                transaction.renew_leases(who.id, now, now + self.section.lease_seconds)
            held = [lease.item for lease in live[:1]] if known is None else known
            waiting = [lease for lease in live if lease.item not in held]
            if waiting:
                item = transaction.item(waiting[0].item, simulated=who.simulated)
                assert item is not None  # a foreign key
                return make_card(transaction, who, item, waiting[0], transaction.responses(item.id))
            more = who.active and len(live) < MOST_LEASES
            open_item = transaction.open_item(who, now) if more else None
            if open_item is None:
                return why_nothing(transaction, who)
            item = planted_item(transaction, who, self.section, now) or open_item
            responses = transaction.responses(item.id)
            given = self._lease(transaction, who, item, len(responses), now)
            return make_card(transaction, who, item, given, responses)

    def _lease(
        self, transaction: Transaction, who: Annotator, item: StoredItem, answers: int, now: float
    ) -> Assignment:
        expires = now + self.section.lease_seconds
        given = transaction.assignment(item.id, who.id)
        if given is not None:
            renewed = given._replace(leased_at=now, expires_at=expires)
            transaction.put_assignment(renewed)
            return renewed
        order, swapped, seed = None, False, self.section.seed
        if answers == 2:
            swapped = unit_hash(seed, "sides", item.item_id, who.name) < 0.5
        else:
            keys = [unit_hash(seed, "sides", item.item_id, who.name, str(position)) for position in range(answers)]
            order = json.dumps(sorted(range(answers), key=keys.__getitem__))
        transaction.add_lease(item.id, who, swapped=swapped, display_order=order, now=now, expires=expires)
        return Assignment(0, item.id, "leased", swapped, now, expires, 0, False, order)

    def submit(self, who: Annotator, submission: Submission) -> Saved:
        """Store a judgement; the same `client_key` again changes nothing.

        Raises:
            Refused: the item was never given to this annotator, the key is somebody else's, or a value is bad.
        """
        check_key(submission.client_key)
        now = self._clock()
        with self.store.write() as transaction:
            transaction.lock_annotator(who.id)
            before = _stored(transaction, who, submission.client_key)
            if before is not None:
                return before
            given = transaction.assignment(submission.item, who.id)
            if given is None:
                raise Refused("not_given")
            texts = [response.text for response in transaction.responses(given.item)]
            check(submission, len(texts))
            saved = self._after(transaction, who, given, submission.choice, now)
            transaction.add_judgement(
                item=given.item,
                annotator=who.id,
                revision=saved.revision,
                client_key=submission.client_key,
                created_at=now,
                **in_own_order(submission, given, texts),
            )
            transaction.put_assignment(saved)
            change = _counts(saved) - _counts(given)
            if change:
                transaction.add_done(given.item, change, simulated=who.simulated)
        return Saved(given.item, saved.revision, saved.surplus, repeated=False)

    def _after(
        self, transaction: Transaction, who: Annotator, given: Assignment, choice: str, now: float
    ) -> Assignment:
        """The assignment after the judgement."""
        state, surplus = _STATES[choice], given.surplus
        held = given.state == "done" or (given.state == "leased" and given.expires_at > now)
        if state == "done" and not held:
            surplus = not self._has_room(transaction, who, given.item, now)
        return given._replace(state=state, revision=given.revision + 1, surplus=surplus)

    def _has_room(self, transaction: Transaction, who: Annotator, item_pk: int, now: float) -> bool:
        """Whether an item that this annotator does not hold takes another judgement. Planted items always do."""
        transaction.lock_item(item_pk)
        item = transaction.item(item_pk, simulated=who.simulated)
        assert item is not None
        leases = transaction.live_leases(item_pk, simulated=who.simulated, now=now)
        return item.kind != "ordinary" or item.done + leases < item.overlap

    def undo(self, who: Annotator, *, client_key: str) -> Card | None:
        """Withdraw the annotator's last judgement and return its card; None if there is none.

        The same `client_key` again returns the same card without withdrawing another judgement.
        """
        check_key(client_key)
        now = self._clock()
        with self.store.write() as transaction:
            transaction.lock_annotator(who.id)
            before = _stored(transaction, who, client_key)
            if before is None:
                last = transaction.newest_judgement(who.id)
                if last is None:
                    return None
                item_pk = last["item"]
                self._withdraw(transaction, who, item_pk, client_key, now)
            else:
                item_pk = before.item
            return _card_of(transaction, who, item_pk)

    def _withdraw(self, transaction: Transaction, who: Annotator, item_pk: int, client_key: str, now: float) -> None:
        given = transaction.assignment(item_pk, who.id)
        assert given is not None
        # A surplus or skipped item that others have taken gets no lease: it must not be taken away from them.
        keeps = _counts(given) or self._has_room(transaction, who, item_pk, now)
        expires = now + self.section.lease_seconds if keeps else now
        reopened = given._replace(state="leased", leased_at=now, expires_at=expires, revision=given.revision + 1)
        transaction.add_judgement(
            item=item_pk,
            annotator=who.id,
            revision=reopened.revision,
            client_key=client_key,
            choice="withdrawn",
            swapped=given.swapped,
            display_order=given.display_order,
            created_at=now,
        )
        transaction.put_assignment(reopened._replace(surplus=False))
        if _counts(given):
            transaction.add_done(item_pk, -1, simulated=who.simulated)
        transaction.add_event("withdrawn", now, who.id, item=item_pk, revision=given.revision)

    def history(self, who: Annotator, *, limit: int = 20, before: float | None = None) -> list[GivenJudgement]:
        """The annotator's own judgements, newest first (strengths in the order of the items' answers)."""
        with self.store.read() as transaction:
            return transaction.history(who.id, limit=limit, before=before)

    def again(self, who: Annotator, item_pk: int) -> Card:
        """The card of an item that this annotator was given, with their judgement: to see it or to change it.

        Raises:
            Refused: it was never given to them.
        """
        with self.store.read() as transaction:
            if transaction.assignment(item_pk, who.id) is None:
                raise Refused("not_given")
            return _card_of(transaction, who, item_pk)

    def progress(self, who: Annotator) -> Progress:
        """The annotator's progress."""
        with self.store.read() as transaction:
            unfinished, had = transaction.open_items(who)
            seconds = transaction.recent_seconds(who.id, _PACE_OVER)
            pace = statistics.median(seconds) if seconds else None
            return Progress(transaction.judged_by(who.id), unfinished - had, pace)


def planted_item(transaction: Transaction, who: Annotator, section: QueueSection, now: float) -> StoredItem | None:
    """The gold item or repeat that this annotator gets now instead of an ordinary item, if any.

    Simulated annotators get none: they are consistent, and their reliability is known.
    """
    if who.simulated or not (section.gold_share or section.repeat_share):
        return None
    lapsed = transaction.planted_lapsed(who, now)
    if lapsed is not None:
        return transaction.item(lapsed, simulated=False)
    turn = str(transaction.given_to(who.id))
    draw = unit_hash(section.seed, "planted", who.name, turn)
    which = unit_hash(section.seed, "which", who.name, turn)
    if draw < section.gold_share:
        gold = transaction.gold_items(who)
        return transaction.item(gold[int(which * len(gold))], simulated=False) if gold else None
    if draw < section.gold_share + section.repeat_share:
        judged = transaction.repeatable(who, section.repeat_after)
        return transaction.copy_as_repeat(judged[int(which * len(judged))], who, now) if judged else None
    return None


def _counts(given: Assignment) -> int:
    return int(given.state == "done" and not given.surplus)


def _stored(transaction: Transaction, who: Annotator, client_key: str) -> Saved | None:
    before = transaction.judgement_by_key(client_key)
    if before is None:
        return None
    if before["annotator"] != who.id:
        raise Refused("not_your_key")
    given = transaction.assignment(before["item"], who.id)
    assert given is not None
    return Saved(before["item"], before["revision"], given.surplus, repeated=True)


def _card_of(transaction: Transaction, who: Annotator, item_pk: int) -> Card:
    item = transaction.item(item_pk, simulated=who.simulated)
    given = transaction.assignment(item_pk, who.id)
    assert item is not None
    assert given is not None
    return make_card(transaction, who, item, given, transaction.responses(item_pk))
