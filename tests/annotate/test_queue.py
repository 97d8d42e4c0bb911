import threading
from collections import Counter
from collections.abc import Callable

import pytest

from annotate.items import load_items
from annotate.queue import Card, Nothing, Queue, Refused, Submission
from annotate.statements import Annotator
from annotate.store import Store
from tests.annotate.conftest import Clock, make_item

Account = Callable[..., Annotator]
Load = Callable[..., None]


@pytest.fixture
def queue(store: Store, clock: Clock) -> Queue:
    return Queue(store, lease_seconds=60, clock=clock)


def _card(queue: Queue, who: Annotator) -> Card:
    card = queue.next(who)
    assert isinstance(card, Card), card
    return card


def _label(queue: Queue, who: Annotator, strength: int = 1) -> int:
    card = _card(queue, who)
    queue.submit(who, Submission(card.item, "compared", strength=strength, client_key=f"{who.name}-{card.item}-key"))
    return card.item


def _rows(store: Store, table: str) -> list[dict[str, object]]:
    with store.read() as transaction:
        return [dict(row._mapping) for row in transaction._connection.exec_driver_sql(f"SELECT * FROM {table}")]


def test_the_own_lease_comes_back(queue: Queue, account: Account, load: Load) -> None:
    load(3)
    ann, bea = account("ann"), account("bea")
    first = _card(queue, ann)
    assert _card(queue, ann) == first
    assert _card(queue, bea).item != first.item


def test_higher_priority_first_then_order_of_loading(queue: Queue, account: Account, load: Load) -> None:
    load(2, prefix="low")
    load(2, prefix="high", priority=5)
    ann = account("ann")
    names = []
    for _ in range(4):
        names.append(_card(queue, ann).item_id)
        _label(queue, ann)
    assert names == ["high0", "high1", "low0", "low1"]


def test_a_lapsed_lease_goes_to_another_and_may_come_back(
    queue: Queue, account: Account, load: Load, clock: Clock
) -> None:
    load(1)
    ann, bea = account("ann"), account("bea")
    item = _card(queue, ann).item
    assert isinstance(queue.next(bea), Nothing)
    clock.now += 61
    assert _card(queue, bea).item == item
    assert isinstance(queue.next(ann), Nothing)
    clock.now += 61
    assert _card(queue, ann).item == item


def test_asking_again_renews_the_lease(queue: Queue, account: Account, load: Load, clock: Clock) -> None:
    load(1)
    ann, bea = account("ann"), account("bea")
    _card(queue, ann)
    clock.now += 50
    _card(queue, ann)
    clock.now += 50
    assert isinstance(queue.next(bea), Nothing)


def test_nobody_gets_an_item_twice(queue: Queue, account: Account, load: Load) -> None:
    load(2, overlap=3)
    ann = account("ann")
    assert {_label(queue, ann), _label(queue, ann)} == {1, 2}
    assert isinstance(queue.next(ann), Nothing)


def test_late_answer_is_kept_as_surplus(store: Store, queue: Queue, account: Account, load: Load, clock: Clock) -> None:
    load(1)
    ann, bea = account("ann"), account("bea")
    item = _card(queue, ann).item
    clock.now += 61
    _label(queue, bea)
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
    item = _card(queue, ann).item
    clock.now += 61
    assert not queue.submit(ann, Submission(item, "compared", strength=2, client_key="late-answer")).surplus
    with store.read() as transaction:
        assert transaction.totals(simulated=False) == (1, 1, 1)


def test_submit_is_idempotent_by_client_key(store: Store, queue: Queue, account: Account, load: Load) -> None:
    load(1)
    ann = account("ann")
    item = _card(queue, ann).item
    first = queue.submit(ann, Submission(item, "compared", strength=3, client_key="the-same-key"))
    again = queue.submit(ann, Submission(item, "compared", strength=-3, client_key="the-same-key"))
    assert (first.repeated, again.repeated, again.revision) == (False, True, 1)
    assert len(_rows(store, "judgement")) == 1


def test_an_edit_is_a_new_revision_and_the_old_one_stays(
    store: Store, queue: Queue, account: Account, load: Load
) -> None:
    load(1)
    ann = account("ann")
    item = _card(queue, ann).item
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
    _label(queue, ann)
    second = _label(queue, ann, strength=-2)
    third = _card(queue, ann).item  # already open when the person goes back
    card = queue.undo(ann, client_key="undo-key-1")
    assert card is not None
    assert (card.item, card.previous) == (second, {"choice": "compared", "strength": -2})
    assert _card(queue, ann).item == second
    with store.read() as transaction:
        assert transaction.totals(simulated=False)[2] == 1
        assert len(list(transaction.current_judgements())) == 1
    queue.submit(ann, Submission(second, "compared", strength=1, client_key="after-undo"))
    assert _card(queue, ann).item == third
    with store.read() as transaction:
        assert transaction.totals(simulated=False)[2] == 2


def test_undo_twice_goes_back_two_answers_but_one_key_only_one(queue: Queue, account: Account, load: Load) -> None:
    load(3)
    ann = account("ann")
    first, second = _label(queue, ann), _label(queue, ann)
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
    item = _card(queue, ann).item
    queue.submit(ann, Submission(item, "skipped", client_key="skip-key-1", reason="not my field"))
    assert isinstance(queue.next(ann), Nothing)
    assert queue.undo(ann, client_key="undo-key-1") is not None
    assert _card(queue, ann).item == item
    queue.submit(ann, Submission(item, "skipped", client_key="skip-key-2"))
    assert _label(queue, bea) == item
    with store.read() as transaction:
        assert transaction.totals(simulated=False) == (1, 1, 1)


def test_people_and_simulated_annotators_do_not_take_items_from_each_other(
    queue: Queue, account: Account, load: Load
) -> None:
    load(1)
    ann, machine = account("ann"), account("simulated", simulated=True)
    assert _label(queue, machine) == _label(queue, ann) == 1
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
    _label(queue, ann)
    assert "you have judged or skipped" in reason(ann)
    load(1, overlap=1, prefix="other")
    _label(queue, ann)
    _label(queue, bea)
    assert "all 2 pairs have the judgements they need" in reason(bea)
    load(1, overlap=1, prefix="third")
    _card(queue, ann)
    assert "last open pair is before other people" in reason(bea)


def test_sides_are_random_stored_and_taken_out_of_the_strength(
    store: Store, queue: Queue, account: Account, load: Load
) -> None:
    load(200)
    ann = account("ann")
    for _ in range(200):
        card = _card(queue, ann)
        swapped = card.left.text == "second answer"
        assert card.left.text != card.right.text
        # Always for the item's first answer, on whichever side it stands.
        queue.submit(
            ann, Submission(card.item, "compared", strength=2 if swapped else -2, client_key=f"key-{card.item:05}")
        )
    with store.read() as transaction:
        judgements = list(transaction.current_judgements())
    assert {judgement.strength for judgement in judgements} == {-2}
    share = sum(judgement.swapped for judgement in judgements) / 200
    assert share == pytest.approx(0.5, abs=0.14)  # 4 standard deviations


def test_sides_differ_between_annotators_and_not_between_looks(
    store: Store, queue: Queue, account: Account, load: Load
) -> None:
    load(40, overlap=2)
    sides = {}
    for name in ("ann", "bea"):
        who = account(name)
        sides[name] = []
        for _ in range(40):
            card = _card(queue, who)
            assert _card(queue, who).left == card.left
            sides[name].append(card.left.text)
            queue.submit(who, Submission(card.item, "compared", strength=0, client_key=f"{name}-{card.item:06}"))
    assert sides["ann"] != sides["bea"]


@pytest.mark.parametrize(
    ("choice", "strength", "key", "problem"),
    [
        ("compared", 4, "a-good-key", "-3 … 3"),
        ("compared", None, "a-good-key", "strength belongs"),
        ("skipped", 1, "a-good-key", "strength belongs"),
        ("best", None, "a-good-key", "choice must be one of"),
        ("skipped", None, "short", "8 to 64"),
    ],
)
def test_bad_answers_are_refused(
    queue: Queue, account: Account, load: Load, choice: str, strength: int | None, key: str, problem: str
) -> None:
    load(1)
    ann = account("ann")
    item = _card(queue, ann).item
    with pytest.raises(Refused, match=problem):
        queue.submit(ann, Submission(item, choice, strength=strength, client_key=key))  # type: ignore[arg-type]


def test_answers_for_others_are_refused(queue: Queue, account: Account, load: Load) -> None:
    load(1)
    ann, bea = account("ann"), account("bea")
    item = _card(queue, ann).item
    with pytest.raises(Refused, match="not given to you"):
        queue.submit(bea, Submission(item, "compared", strength=1, client_key="a-good-key"))
    queue.submit(ann, Submission(item, "compared", strength=1, client_key="key-of-ann"))
    with pytest.raises(Refused, match="another annotator"):
        queue.submit(bea, Submission(item, "compared", strength=1, client_key="key-of-ann"))


def test_progress(queue: Queue, account: Account, load: Load) -> None:
    load(3, overlap=2)
    ann, bea = account("ann"), account("bea")
    _label(queue, ann)
    _label(queue, bea)
    progress = queue.progress(ann)
    assert (progress.mine, progress.given, progress.wanted) == (1, 2, 6)
    assert progress.open_for_me == 2


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
