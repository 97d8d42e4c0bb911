"""Who is given which item, on both databases."""

import pytest

from annotate.config import MOST_LEASES
from annotate.queue.progress import SECONDS
from annotate.queue.rules import Card, Nothing, Queue, Refused, Submission
from annotate.store.database import Store
from tests.annotate.conftest import Clock, label, open_card
from tests.annotate.queue.conftest import Account, Load


def test_the_own_lease_comes_back(queue: Queue, account: Account, load: Load) -> None:
    load(3)
    ann, bea = account("ann"), account("bea")
    first = open_card(queue, ann)
    assert open_card(queue, ann) == first
    assert open_card(queue, bea).item != first.item


def test_higher_priority_first_then_order_of_loading(queue: Queue, account: Account, load: Load) -> None:
    load(2, prefix="low")
    load(2, prefix="high", priority=5)
    ann = account("ann")
    names = []
    for _ in range(4):
        names.append(open_card(queue, ann).item_id)
        label(queue, ann)
    assert names == ["high0", "high1", "low0", "low1"]


def test_a_lapsed_lease_goes_to_another_and_may_come_back(
    queue: Queue, account: Account, load: Load, clock: Clock
) -> None:
    load(1)
    ann, bea = account("ann"), account("bea")
    item = open_card(queue, ann).item
    assert isinstance(queue.next(bea), Nothing)
    clock.now += 61
    assert open_card(queue, bea).item == item
    assert isinstance(queue.next(ann), Nothing)
    clock.now += 61
    assert open_card(queue, ann).item == item


def test_asking_again_renews_the_lease(queue: Queue, account: Account, load: Load, clock: Clock) -> None:
    load(1)
    ann, bea = account("ann"), account("bea")
    open_card(queue, ann)
    clock.now += 50
    open_card(queue, ann)
    clock.now += 50
    assert isinstance(queue.next(bea), Nothing)


def test_nobody_gets_an_item_twice(queue: Queue, account: Account, load: Load) -> None:
    load(2, overlap=3)
    ann = account("ann")
    assert {label(queue, ann), label(queue, ann)} == {1, 2}
    assert isinstance(queue.next(ann), Nothing)


def test_late_answer_is_kept_as_surplus(store: Store, queue: Queue, account: Account, load: Load, clock: Clock) -> None:
    load(1)
    ann, bea = account("ann"), account("bea")
    item = open_card(queue, ann).item
    clock.now += 61
    label(queue, bea)
    saved = queue.submit(ann, Submission(item, "compared", strength=2, client_key="late-answer"))
    assert saved.surplus
    with store.read() as transaction:
        assert transaction.totals(simulated=False) == (1, 1, 1)
        assert len(list(transaction.current_judgements())) == 2


def test_late_answer_counts_where_nobody_took_over(
    store: Store, queue: Queue, account: Account, load: Load, clock: Clock
) -> None:
    load(1)
    ann = account("ann")
    item = open_card(queue, ann).item
    clock.now += 61
    assert not queue.submit(ann, Submission(item, "compared", strength=2, client_key="late-answer")).surplus
    with store.read() as transaction:
        assert transaction.totals(simulated=False) == (1, 1, 1)


def test_why_nothing_is_left(queue: Queue, account: Account, load: Load) -> None:
    ann, bea = account("ann"), account("bea")
    assert queue.next(ann) == Nothing("no_items")
    load(1, overlap=2)
    label(queue, ann)
    assert queue.next(ann) == Nothing("for_others", 1)
    load(1, overlap=1, prefix="other")
    label(queue, ann)
    label(queue, bea)
    assert queue.next(bea) == Nothing("all_done", 2)
    load(1, overlap=1, prefix="third")
    open_card(queue, ann)
    assert queue.next(bea) == Nothing("before_others", 1)


def test_answers_for_others_are_refused(queue: Queue, account: Account, load: Load) -> None:
    load(1)
    ann, bea = account("ann"), account("bea")
    item = open_card(queue, ann).item
    with pytest.raises(Refused, match="not_given"):
        queue.submit(bea, Submission(item, "compared", strength=1, client_key="a-good-key"))
    queue.submit(ann, Submission(item, "compared", strength=1, client_key="key-of-ann"))
    with pytest.raises(Refused, match="not_your_key"):
        queue.submit(bea, Submission(item, "compared", strength=1, client_key="key-of-ann"))


def test_progress(queue: Queue, account: Account, load: Load) -> None:
    load(3, overlap=2)
    ann, bea = account("ann"), account("bea")
    label(queue, ann)
    label(queue, bea)
    progress = queue.progress(ann)
    assert (progress.mine, progress.open_for_me) == (1, 2)


def test_many_open_items_are_counted_now_and_then(
    queue: Queue, account: Account, load: Load, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("annotate.queue.progress.EXACT", 3)
    load(5)
    ann, bea = account("ann"), account("bea")
    assert queue.progress(ann).open_for_me == 5
    label(queue, ann)
    assert (queue.progress(ann).mine, queue.progress(ann).open_for_me, queue.progress(bea).open_for_me) == (1, 5, 5)
    clock.now += SECONDS
    assert queue.progress(ann).open_for_me == 4
    label(queue, ann)
    clock.now += SECONDS
    assert queue.progress(ann).open_for_me == 3
    label(queue, ann)
    assert queue.progress(ann).open_for_me == 2  # few are counted each time


def test_submit_and_next_is_submit_then_next(queue: Queue, account: Account, load: Load) -> None:
    load(2)
    ann = account("ann")
    first = open_card(queue, ann)
    answer = Submission(first.item, "compared", strength=1, client_key="first-key")
    saved, second = queue.submit_and_next(ann, answer)
    assert (saved.revision, saved.repeated) == (1, False)
    assert isinstance(second, Card)
    assert second.item != first.item
    again, same = queue.submit_and_next(ann, answer)
    assert again.repeated
    assert same == second == queue.next(ann)
    _, end = queue.submit_and_next(ann, Submission(second.item, "skipped", client_key="second-key"))
    assert end == queue.next(ann)
    assert isinstance(end, Nothing)
    with pytest.raises(Refused, match="not_given"):
        queue.submit_and_next(account("bea"), Submission(first.item, "both_bad", client_key="third-key"))


def test_the_card_ahead_is_the_next_one_and_nobody_elses(queue: Queue, account: Account, load: Load) -> None:
    load(3)
    ann, bea = account("ann"), account("bea")
    first, ahead = open_card(queue, ann), queue.ahead(ann)
    assert isinstance(ahead, Card)
    assert ahead.item != first.item
    assert queue.ahead(ann) == ahead
    assert open_card(queue, ann) == first
    assert open_card(queue, bea).item not in (first.item, ahead.item)
    label(queue, ann)
    assert open_card(queue, ann) == ahead
    assert isinstance(queue.ahead(ann), Nothing)


def test_cards_ahead_are_those_that_the_caller_does_not_have(queue: Queue, account: Account, load: Load) -> None:
    load(MOST_LEASES + 5)
    ann = account("ann")
    known = [open_card(queue, ann).item]
    while isinstance(card := queue.ahead(ann, known), Card):
        assert card.item not in known
        assert queue.ahead(ann, known) == card  # the same until the caller has it
        known.append(card.item)
    assert len(known) == MOST_LEASES


def test_an_item_of_two_judgements_is_not_given_twice_as_the_card_ahead(
    queue: Queue, account: Account, load: Load
) -> None:
    load(1, overlap=2)
    ann = account("ann")
    open_card(queue, ann)
    assert isinstance(queue.ahead(ann), Nothing)
