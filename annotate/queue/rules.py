"""The rules of the queue: who is given which item, and how judgements are stored. Page, API and simulation use it.

Each call is one transaction. A lease reserves an item for the annotator who opened it. Judgements plus leases never
exceed an item's overlap, and nobody is given an item that they judged or skipped again, except as a planted repeat.
"""

import json
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from annotate.config import MOST_LEASES, QueueSection
from annotate.queue.cards import Answer, Card, Nothing, make_card, why_nothing
from annotate.queue.history import past
from annotate.queue.progress import OpenItems, Progress
from annotate.queue.submission import Choice, Refused, Submission, check, check_key, check_marks, in_own_order, order_of
from annotate.store.database import Store
from annotate.store.statements import Annotator, Assignment, CardRows, GivenJudgement, Transaction
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


@dataclass(frozen=True)
class Saved:
    """What was stored for a submission."""

    item: int
    revision: int
    surplus: bool
    """Stored, but beyond the item's overlap: the lease had expired and others judged the item."""
    repeated: bool
    """This client key was stored before; nothing was written now."""


class Queue:
    """The queue of one store."""

    def __init__(self, store: Store, section: QueueSection, *, clock: Callable[[], float] = time.time) -> None:
        self.store, self.section, self._clock = store, section, clock
        self._open_items = OpenItems(clock)

    @contextmanager
    def _write(self, who: Annotator) -> Iterator[Transaction]:
        """A transaction in which other requests of this annotator wait."""
        with self.store.write() as transaction:
            transaction.lock_annotator(who.id)
            yield transaction

    def next(self, who: Annotator) -> Card | Nothing:
        """The card to answer now: the annotator's open one, its lease renewed, or else a new one."""
        with self._write(who) as transaction:
            return self._card(transaction, who, ()) or why_nothing(transaction, who)

    def ahead(self, who: Annotator, known: Collection[int] | None = None) -> Card | Nothing:
        """A card after the open one, leased in advance so that it can be shown without waiting.

        `known`: items of the cards that the caller has; None: the open one. At most `MOST_LEASES` are held at a time.
        """
        with self._write(who) as transaction:
            return self._card(transaction, who, known) or why_nothing(transaction, who)

    def _card(
        self, transaction: Transaction, who: Annotator, known: Collection[int] | None, *, waits: bool = True
    ) -> Card | None:
        """A card that is not among the known ones, if any; `waits`: also for an item that somebody else has locked."""
        now = self._clock()
        live = transaction.live_leases_of(who.id, now)
        if live:
            transaction.renew_leases(who.id, now, now + self.section.lease_seconds)
        held = [lease.item for lease in live[:1]] if known is None else known
        waiting = next((lease for lease in live if lease.item not in held), None)
        if waiting is not None:
            rows = transaction.card_rows(waiting.item, who, now)
            assert rows is not None  # a foreign key
            return make_card(transaction, who, rows.item, waiting, rows.responses)
        more = who.active and len(live) < MOST_LEASES
        rows = self._new_item(transaction, who, now, waits=waits) if more else None
        if rows is None:
            return None
        given = self._lease(transaction, who, rows, now)
        return make_card(transaction, who, rows.item, given, rows.responses)

    def _new_item(self, transaction: Transaction, who: Annotator, now: float, *, waits: bool) -> CardRows | None:
        """What this annotator gets next: training first; then an open item, or one that is planted among them."""
        lesson = None if who.simulated else transaction.training_item(who, now)
        if lesson is not None:
            return transaction.card_rows(lesson, who, now)
        rows = transaction.open_item(who, now, waits=waits)
        planted = None if rows is None else planted_item(transaction, who, self.section, now)
        return rows if planted is None else transaction.card_rows(planted, who, now)

    def _lease(self, transaction: Transaction, who: Annotator, rows: CardRows, now: float) -> Assignment:
        expires, item, answers = now + self.section.lease_seconds, rows.item, len(rows.responses)
        if rows.given is not None:
            renewed = rows.given._replace(leased_at=now, expires_at=expires)
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
        with self._write(who) as transaction:
            return self._submit(transaction, who, submission)

    def submit_and_next(self, who: Annotator, submission: Submission) -> tuple[Saved, Card | Nothing]:
        """`submit`, then `next`, in one transaction: it is written to the disk once.

        Raises:
            Refused: see `submit`.
        """
        check_key(submission.client_key)
        with self._write(who) as transaction:
            saved = self._submit(transaction, who, submission)
            # The judged item is locked: two people who each waited for the other's would wait forever.
            card = self._card(transaction, who, (), waits=False)
        return saved, card or self.next(who)

    def _submit(self, transaction: Transaction, who: Annotator, submission: Submission) -> Saved:
        now = self._clock()
        before = _stored(transaction, who, submission.client_key)
        if before is not None:
            return before
        rows = transaction.card_rows(submission.item, who, now)
        if rows is None or rows.given is None:
            raise Refused("not_given")
        given, texts = rows.given, [response.text for response in rows.responses]
        check(submission, len(texts))
        if submission.reasons or submission.spans:
            shown = [texts[position] for position in order_of(given, len(texts))]
            check_marks(submission, shown, transaction.offered_reasons())
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
        rows = transaction.card_rows(item_pk, who, now)
        assert rows is not None  # a foreign key
        return rows.item.kind != "ordinary" or rows.has_room

    def undo(self, who: Annotator, *, client_key: str) -> Card | None:
        """Withdraw the annotator's last judgement and return its card; None if there is none.

        The same `client_key` again returns the same card without withdrawing another judgement.
        """
        check_key(client_key)
        now = self._clock()
        with self._write(who) as transaction:
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
        return past(self.store, who, limit=limit, before=before)

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
            return self._open_items.progress(transaction, who)


def planted_item(transaction: Transaction, who: Annotator, section: QueueSection, now: float) -> int | None:
    """The gold item or repeat that this annotator gets now instead of an ordinary item, if any.

    Simulated annotators get none: they are consistent, and their reliability is known.
    """
    if who.simulated or not (section.gold_share or section.repeat_share):
        return None
    lapsed = transaction.planted_lapsed(who, now)
    if lapsed is not None:
        return lapsed
    turn = str(transaction.given_to(who.id))
    draw = unit_hash(section.seed, "planted", who.name, turn)
    which = unit_hash(section.seed, "which", who.name, turn)
    if draw < section.gold_share:
        gold = transaction.gold_items(who)
        return gold[int(which * len(gold))] if gold else None
    if draw < section.gold_share + section.repeat_share:
        judged = transaction.repeatable(who, section.repeat_after)
        return transaction.copy_as_repeat(judged[int(which * len(judged))], who, now).id if judged else None
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
    rows = transaction.card_rows(item_pk, who, 0)
    assert rows is not None
    assert rows.given is not None
    return make_card(transaction, who, rows.item, rows.given, rows.responses)
