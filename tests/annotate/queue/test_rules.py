import threading
from collections import Counter
from collections.abc import Callable

import pytest

from annotate.intake.items import load_items
from annotate.people.accounts import set_state
from annotate.queue.rules import Card, Nothing, Queue, Refused, Submission
from annotate.store.database import Store
from annotate.store.statements import Annotator
from tests.annotate.conftest import Clock, label, make_item, open_card

Account = Callable[..., Annotator]
Load = Callable[..., None]


@pytest.fixture
def store(either_store: Store) -> Store:
    return either_store


@pytest.fixture
def queue(store: Store, clock: Clock) -> Queue:
    return Queue(store, lease_seconds=60, clock=clock)


def _rows(store: Store, table: str) -> list[dict[str, object]]:
    with store.read() as transaction:
        return [dict(row._mapping) for row in transaction._connection.exec_driver_sql(f"SELECT * FROM {table}")]


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


def test_submit_is_idempotent_by_client_key(store: Store, queue: Queue, account: Account, load: Load) -> None:
    load(1)
    ann = account("ann")
    item = open_card(queue, ann).item
    first = queue.submit(ann, Submission(item, "compared", strength=3, client_key="the-same-key"))
    again = queue.submit(ann, Submission(item, "compared", strength=-3, client_key="the-same-key"))
    assert (first.repeated, again.repeated, again.revision) == (False, True, 1)
    assert len(_rows(store, "judgement")) == 1


def test_an_edit_is_a_new_revision_and_the_old_one_stays(
    store: Store, queue: Queue, account: Account, load: Load
) -> None:
    load(1)
    ann = account("ann")
    item = open_card(queue, ann).item
    queue.submit(ann, Submission(item, "compared", strength=3, client_key="first-key"))
    assert queue.submit(ann, Submission(item, "both_bad", client_key="second-key")).revision == 2
    assert [row["choice"] for row in _rows(store, "judgement")] == ["compared", "both_bad"]
    with store.read() as transaction:
        (current,) = transaction.current_judgements()
        assert transaction.totals(simulated=False)[2] == 1
    assert current.choice == "both_bad"


def test_undo_withdraws_and_gives_the_card_back(store: Store, queue: Queue, account: Account, load: Load) -> None:
    load(3)
    ann = account("ann")
    label(queue, ann)
    second = label(queue, ann, strength=-2)
    third = open_card(queue, ann).item  # already open when the person goes back
    card = queue.undo(ann, client_key="undo-key-1")
    assert card is not None
    assert (card.item, card.previous) == (second, {"choice": "compared", "strength": -2})
    assert open_card(queue, ann).item == second
    with store.read() as transaction:
        assert transaction.totals(simulated=False)[2] == 1
        assert len(list(transaction.current_judgements())) == 1
    queue.submit(ann, Submission(second, "compared", strength=1, client_key="after-undo"))
    assert open_card(queue, ann).item == third
    with store.read() as transaction:
        assert transaction.totals(simulated=False)[2] == 2


def test_undo_twice_goes_back_two_answers_but_one_key_only_one(queue: Queue, account: Account, load: Load) -> None:
    load(3)
    ann = account("ann")
    first, second = label(queue, ann), label(queue, ann)
    for key, item in (("undo-key-1", second), ("undo-key-1", second), ("undo-key-2", first)):
        card = queue.undo(ann, client_key=key)
        assert card is not None
        assert card.item == item
    assert queue.undo(ann, client_key="undo-key-3") is None


def test_a_skipped_item_goes_to_others_and_can_be_taken_back(
    store: Store, queue: Queue, account: Account, load: Load
) -> None:
    load(1)
    ann, bea = account("ann"), account("bea")
    item = open_card(queue, ann).item
    queue.submit(ann, Submission(item, "skipped", client_key="skip-key-1", reason="not my field"))
    assert isinstance(queue.next(ann), Nothing)
    assert queue.undo(ann, client_key="undo-key-1") is not None
    assert open_card(queue, ann).item == item
    queue.submit(ann, Submission(item, "skipped", client_key="skip-key-2"))
    assert label(queue, bea) == item
    with store.read() as transaction:
        assert transaction.totals(simulated=False) == (1, 1, 1)


def test_people_and_simulated_annotators_do_not_take_items_from_each_other(
    queue: Queue, account: Account, load: Load
) -> None:
    load(1)
    ann, machine = account("ann"), account("simulated", simulated=True)
    assert label(queue, machine) == label(queue, ann) == 1
    assert isinstance(queue.next(ann), Nothing)
    assert isinstance(queue.next(machine), Nothing)


def test_why_nothing_is_left(queue: Queue, account: Account, load: Load) -> None:
    ann, bea = account("ann"), account("bea")

    def reason(who: Annotator) -> str:
        nothing = queue.next(who)
        assert isinstance(nothing, Nothing)
        return nothing.reason

    assert "no pairs have been loaded" in reason(ann)
    load(1, overlap=2)
    label(queue, ann)
    assert "you have judged or skipped" in reason(ann)
    load(1, overlap=1, prefix="other")
    label(queue, ann)
    label(queue, bea)
    assert "all 2 pairs have the judgements they need" in reason(bea)
    load(1, overlap=1, prefix="third")
    open_card(queue, ann)
    assert "last open pair is before other people" in reason(bea)


def test_answers_for_others_are_refused(queue: Queue, account: Account, load: Load) -> None:
    load(1)
    ann, bea = account("ann"), account("bea")
    item = open_card(queue, ann).item
    with pytest.raises(Refused, match="not given to you"):
        queue.submit(bea, Submission(item, "compared", strength=1, client_key="a-good-key"))
    queue.submit(ann, Submission(item, "compared", strength=1, client_key="key-of-ann"))
    with pytest.raises(Refused, match="another annotator"):
        queue.submit(bea, Submission(item, "compared", strength=1, client_key="key-of-ann"))


def test_progress(queue: Queue, account: Account, load: Load) -> None:
    load(3, overlap=2)
    ann, bea = account("ann"), account("bea")
    label(queue, ann)
    label(queue, bea)
    progress = queue.progress(ann)
    assert (progress.mine, progress.open_for_me) == (1, 2)


def test_many_threads_never_over_assign_nor_lose(store: Store, account: Account) -> None:
    load_items(store, [make_item(f"i{n}") for n in range(60)], overlap=3, overlap_share=0.5)
    queue = Queue(store, lease_seconds=60)
    people = [account(f"person-{number}") for number in range(8)]
    sent: Counter[str] = Counter()
    errors: list[BaseException] = []

    def work(who: Annotator) -> None:
        try:
            while isinstance(card := queue.next(who), Card):
                key = f"{who.name}-{card.item:08}"
                for _ in range(2):  # every answer is sent twice
                    queue.submit(who, Submission(card.item, "compared", strength=1, client_key=key))
                sent[who.name] += 1
        except BaseException as error:
            errors.append(error)

    # Two threads a person, as in two tabs.
    threads = [threading.Thread(target=work, args=(who,)) for who in people * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    judgements, items = _rows(store, "judgement"), _rows(store, "item")
    per_item = Counter(row["item"] for row in judgements)
    assert (
        {item["id"]: item["overlap"] for item in items}
        == per_item
        == {item["id"]: item["done_people"] for item in items}
    )
    assert max(Counter((row["item"], row["annotator"]) for row in judgements).values()) == 1
    assert not any(row["surplus"] for row in _rows(store, "assignment"))


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


def test_an_item_of_two_judgements_is_not_given_twice_as_the_card_ahead(
    queue: Queue, account: Account, load: Load
) -> None:
    load(1, overlap=2)
    ann = account("ann")
    open_card(queue, ann)
    assert isinstance(queue.ahead(ann), Nothing)


def test_a_withdrawn_answer_comes_before_what_was_leased_ahead(queue: Queue, account: Account, load: Load) -> None:
    load(4)
    ann = account("ann")
    first = label(queue, ann)
    second, third = open_card(queue, ann).item, queue.ahead(ann)
    assert isinstance(third, Card)
    assert queue.undo(ann, client_key="undo-key-1") is not None
    order = [_judge_once(queue, ann, number) for number in range(3)]
    assert order == [first, second, third.item]


def _judge_once(queue: Queue, who: Annotator, number: int) -> int:
    item = open_card(queue, who).item
    queue.submit(who, Submission(item, "both_bad", client_key=f"again-{number}-{item}"))
    return item


def test_a_paused_annotator_gets_nothing_and_keeps_the_judgements(
    store: Store, queue: Queue, account: Account, load: Load
) -> None:
    load(3)
    ann, bea = account("ann"), account("bea")
    label(queue, ann)
    opened = open_card(queue, ann).item
    set_state(store, "ann", "paused")
    nothing = queue.next(_again(store, "ann"))
    assert isinstance(nothing, Nothing)
    assert "paused" in nothing.reason
    assert open_card(queue, bea).item == opened  # what was open went back
    with store.read() as transaction:
        assert len(list(transaction.current_judgements())) == 1
    set_state(store, "ann", "active")
    assert isinstance(queue.next(_again(store, "ann")), Card)


def test_items_of_a_removed_annotator_are_judged_again(
    store: Store, queue: Queue, account: Account, load: Load
) -> None:
    load(2)
    ann, bea = account("ann"), account("bea")
    judged = label(queue, ann)
    set_state(store, "ann", "removed")
    with store.read() as transaction:
        assert transaction.totals(simulated=False) == (2, 2, 0)
        assert list(transaction.current_judgements()) == []
        assert [j.annotator for j in transaction.current_judgements(removed=True)] == ["ann"]
    assert label(queue, bea) == judged
    set_state(store, "ann", "active")
    with store.read() as transaction:
        assert len(list(transaction.current_judgements())) == 2
        assert transaction.totals(simulated=False)[2] == 2


def _again(store: Store, name: str) -> Annotator:
    with store.read() as transaction:
        found = transaction.annotator(name)
    assert found is not None
    return found
