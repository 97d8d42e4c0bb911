import json
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from annotate.items import load_items
from annotate.people import set_state
from annotate.planting import Planting
from annotate.queue import Card, Nothing, Queue, Refused, Submission
from annotate.statements import Annotator
from annotate.store import Store
from annotate.submission import check
from tests.annotate.conftest import Clock, make_item
from workbench.data.records import Item, Response

Account = Callable[..., Annotator]
Load = Callable[..., None]


@pytest.fixture
def store(either_store: Store) -> Store:
    return either_store


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
    load(100)
    ann = account("ann")
    for _ in range(100):
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
    share = sum(judgement.swapped for judgement in judgements) / 100
    assert share == pytest.approx(0.5, abs=0.2)  # 4 standard deviations


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
    first, ahead = _card(queue, ann), queue.ahead(ann)
    assert isinstance(ahead, Card)
    assert ahead.item != first.item
    assert queue.ahead(ann) == ahead
    assert _card(queue, ann) == first
    assert _card(queue, bea).item not in (first.item, ahead.item)
    _label(queue, ann)
    assert _card(queue, ann) == ahead
    assert isinstance(queue.ahead(ann), Nothing)


def test_an_item_of_two_judgements_is_not_given_twice_as_the_card_ahead(
    queue: Queue, account: Account, load: Load
) -> None:
    load(1, overlap=2)
    ann = account("ann")
    _card(queue, ann)
    assert isinstance(queue.ahead(ann), Nothing)


def test_a_withdrawn_answer_comes_before_what_was_leased_ahead(queue: Queue, account: Account, load: Load) -> None:
    load(4)
    ann = account("ann")
    first = _label(queue, ann)
    second, third = _card(queue, ann).item, queue.ahead(ann)
    assert isinstance(third, Card)
    assert queue.undo(ann, client_key="undo-key-1") is not None
    order = [_label_once(queue, ann, number) for number in range(3)]
    assert order == [first, second, third.item]


def _label_once(queue: Queue, who: Annotator, number: int) -> int:
    item = _card(queue, who).item
    queue.submit(who, Submission(item, "both_bad", client_key=f"again-{number}-{item}"))
    return item


def _of_answers(count: int) -> Item:
    item = make_item("many")
    responses = tuple(Response(id=str(n), text=f"answer {n}") for n in range(count))
    return item.model_copy(update={"responses": responses})


def test_a_ranking_is_stored_in_the_items_own_order(store: Store, queue: Queue, account: Account) -> None:
    load_items(store, [_of_answers(4)], overlap=8, overlap_share=1, compare="ranking")
    orders = set()
    for name in ("ann", "bea", "cid", "dan"):
        who = account(name)
        card = _card(queue, who)
        texts = [answer.text for answer in card.answers]
        orders.add(tuple(texts))
        assert sorted(texts) == [f"answer {n}" for n in range(4)]
        # Of its own order: answer 2 best, 0 and 3 equal, 1 worst; and a better version of answer 2.
        ranks = {"answer 2": 1, "answer 0": 2, "answer 3": 2, "answer 1": 4}
        ranking = tuple(ranks[text] for text in texts)
        place = texts.index("answer 2")
        edit = {"edited_text": "better", "edited_response": place}
        queue.submit(who, Submission(card.item, "ranked", f"key-of-{name}", ranking=ranking, **edit))  # type: ignore[arg-type]
        again = queue.again(who, card.item)
        assert again.answers == card.answers
        assert again.previous == {"choice": "ranked", "strength": None, "ranking": list(ranking), **edit}
    assert len(orders) > 1  # drawn for each annotator
    with store.read() as transaction:
        judgements = list(transaction.current_judgements())
    assert {(j.ranking, j.edited_response, j.edited_text) for j in judgements} == {("[2, 4, 1, 2]", 2, "better")}


def test_rubric_edit_and_flag_are_stored_in_the_items_own_order(
    store: Store, queue: Queue, account: Account, load: Load
) -> None:
    load(12)
    ann, sides = account("ann"), set()
    for number in range(12):
        card = _card(queue, ann)
        first = 1 if card.left.text == "second answer" else 0  # where the item's first answer stands
        sides.add(first)
        sign = 1 if first else -1
        queue.submit(
            ann,
            Submission(
                card.item,
                "compared",
                f"key-{number:05}",
                strength=2 * sign,
                rubric={"helpful": 3 * sign, "honest": 0},
                flag="pii",
                comment="a name in it",
                edited_text="improved",
                edited_response=first,
                guidelines_version="v2",
                seconds=4.5,
            ),
        )
    assert sides == {0, 1}
    with store.read() as transaction:
        stored = {j._replace(item=0, created_at=0, swapped=False) for j in transaction.current_judgements()}
    (one,) = stored
    assert (one.strength, json.loads(one.rubric or ""), one.flag) == (-2, {"helpful": -3, "honest": 0}, "pii")
    assert (one.edited_text, one.edited_response, one.guidelines_version) == ("improved", 0, "v2")
    assert queue.progress(ann).seconds_each == 4.5


def test_an_edit_that_changes_nothing_is_none(store: Store, queue: Queue, account: Account, load: Load) -> None:
    load(1)
    ann = account("ann")
    card = _card(queue, ann)
    edit = {"edited_text": card.left.text, "edited_response": 0}
    queue.submit(ann, Submission(card.item, "compared", "a-good-key", strength=-1, **edit))  # type: ignore[arg-type]
    with store.read() as transaction:
        (judgement,) = transaction.current_judgements()
    assert (judgement.edited_text, judgement.edited_response) == (None, None)


@pytest.mark.parametrize(
    ("answers", "fields", "problem"),
    [
        (2, {"choice": "ranked", "ranking": (1, 2)}, "compare them"),
        (3, {"choice": "compared", "strength": 1}, "rank them"),
        (3, {"choice": "ranked"}, "a ranking belongs"),
        (3, {"choice": "skipped", "ranking": (1, 2, 3)}, "a ranking belongs"),
        (3, {"choice": "ranked", "ranking": (1, 2)}, "2 ranks, and the item 3"),
        (3, {"choice": "ranked", "ranking": (2, 3, 2)}, "must start at 1"),
        (3, {"choice": "ranked", "ranking": (1, 2, 4)}, "end at 3"),
        (3, {"choice": "both_bad", "rubric": {"honest": 1}}, "rubric dimensions belong"),
        (2, {"choice": "both_bad", "rubric": {"honest": 4}}, "-3 … 3"),
        (2, {"choice": "both_bad", "rubric": {"": 1}}, "1 to 64"),
        (2, {"choice": "both_bad", "rubric": {str(n): 1 for n in range(17)}}, "at most 16"),
        (2, {"choice": "both_bad", "edited_text": "x"}, "needs the place"),
        (2, {"choice": "both_bad", "edited_response": 1}, "needs the place"),
        (2, {"choice": "both_bad", "edited_text": "x", "edited_response": 2}, "0 … 1"),
        (2, {"choice": "both_bad", "edited_text": "  ", "edited_response": 1}, "is empty"),
        (2, {"choice": "both_bad", "flag": "ugly"}, "flag must be"),
        (2, {"choice": "both_bad", "reason": "because"}, "a reason belongs"),
        (2, {"choice": "skipped", "reason": "x" * 501}, "at most 500"),
        (2, {"choice": "skipped", "comment": "NUL \x00"}, "cannot be stored"),
        (2, {"choice": "skipped", "seconds": float("nan")}, "seconds must be"),
    ],
)
def test_answers_that_make_no_sense_are_refused(answers: int, fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(Refused, match=problem):
        check(Submission(1, client_key="a-good-key", **fields), answers)


def test_a_paused_annotator_gets_nothing_and_keeps_the_judgements(
    store: Store, queue: Queue, account: Account, load: Load
) -> None:
    load(3)
    ann, bea = account("ann"), account("bea")
    _label(queue, ann)
    opened = _card(queue, ann).item
    set_state(store, "ann", "paused")
    nothing = queue.next(_again(store, "ann"))
    assert isinstance(nothing, Nothing)
    assert "paused" in nothing.reason
    assert _card(queue, bea).item == opened  # what was open went back
    with store.read() as transaction:
        assert len(list(transaction.current_judgements())) == 1
    set_state(store, "ann", "active")
    assert isinstance(queue.next(_again(store, "ann")), Card)


def test_items_of_a_removed_annotator_are_judged_again(
    store: Store, queue: Queue, account: Account, load: Load
) -> None:
    load(2)
    ann, bea = account("ann"), account("bea")
    judged = _label(queue, ann)
    set_state(store, "ann", "removed")
    with store.read() as transaction:
        assert transaction.totals(simulated=False) == (2, 2, 0)
        assert list(transaction.current_judgements()) == []
        assert [j.annotator for j in transaction.current_judgements(removed=True)] == ["ann"]
    assert _label(queue, bea) == judged
    set_state(store, "ann", "active")
    with store.read() as transaction:
        assert len(list(transaction.current_judgements())) == 2
        assert transaction.totals(simulated=False)[2] == 2


def _again(store: Store, name: str) -> Annotator:
    with store.read() as transaction:
        found = transaction.annotator(name)
    assert found is not None
    return found


def test_gold_items_and_repeats_come_at_their_rates(store: Store, account: Account, clock: Clock) -> None:
    gold = [make_item(f"gold{n}", known_strength=2) for n in range(30)]
    load_items(store, [*(make_item(f"i{n}") for n in range(100)), *gold], overlap=1, overlap_share=0)
    queue = Queue(store, lease_seconds=60, clock=clock, planting=Planting(0.1, 0.15, repeat_after=10))
    ann, given = account("ann"), []
    while isinstance(card := queue.next(ann), Card):
        clock.now += 1
        given.append(card.item)
        queue.submit(ann, Submission(card.item, "compared", f"key-{card.item:06}", strength=1))
    with store.read() as transaction:
        items = {item.id: item for item in transaction.items()}
        assert transaction.totals(simulated=False) == (100, 100, 100)
    kinds = Counter(items[key].kind for key in given)
    assert len(given) == len(set(given))
    assert kinds["ordinary"] == 100
    assert kinds["gold"] / len(given) == pytest.approx(0.1, abs=0.1)
    assert kinds["repeat"] / len(given) == pytest.approx(0.15, abs=0.12)
    repeated = [items[key].repeat_of for key in given if items[key].kind == "repeat"]
    assert len(repeated) == len(set(repeated))
    for place, key in enumerate(given):
        if items[key].kind == "repeat":
            assert place - given.index(items[key].repeat_of or 0) > 10
    with store.read() as transaction:
        first = next(item for item in items.values() if item.kind == "repeat")
        assert transaction.responses(first.id) == transaction.responses(first.repeat_of or 0)
        sides = {j.item: j.swapped for j in transaction.current_judgements()}
    changed = [sides[item.id] != sides[item.repeat_of or 0] for item in items.values() if item.kind == "repeat"]
    assert True in changed  # the sides of a repeat are drawn anew
    assert False in changed


def test_a_repeat_left_lying_comes_back_to_the_same_person_only(store: Store, account: Account, clock: Clock) -> None:
    load_items(store, [make_item(f"i{n}") for n in range(6)], overlap=2, overlap_share=1)
    queue = Queue(store, lease_seconds=60, clock=clock, planting=Planting(0, 1, repeat_after=1))
    ann, bea = account("ann"), account("bea")
    first = _label(queue, ann)
    second = _label(queue, ann)  # the first is the one item given since: no repeat yet
    repeat = _card(queue, ann)
    clock.now += 61
    assert _card(queue, ann).item == repeat.item
    assert _card(queue, bea).item == first
    assert repeat.item not in (first, second)
    with store.read() as transaction:
        stored = transaction.item(repeat.item, simulated=False)
    assert stored is not None
    assert (stored.kind, stored.repeat_of) == ("repeat", first)


def test_simulated_annotators_get_nothing_planted(store: Store, account: Account) -> None:
    load_items(store, [make_item("i"), make_item("gold", known_strength=2)], overlap=1, overlap_share=0)
    queue = Queue(store, lease_seconds=60, planting=Planting(1, 0))
    assert _card(queue, account("machine", simulated=True)).item_id == "i"
    assert _card(queue, account("ann")).item_id == "gold"


def test_own_history_and_an_earlier_answer_again(queue: Queue, account: Account, load: Load, clock: Clock) -> None:
    load(3, overlap=2)
    ann, bea = account("ann"), account("bea")
    items = []
    for strength in (1, -2):
        items.append(_label(queue, ann, strength))
        clock.now += 1
    history = queue.history(ann)
    assert [line.item for line in history] == items[::-1]
    assert history[0].last_message == "Question i1?"
    assert [line.item for line in queue.history(ann, before=history[0].created_at)] == items[:1]
    assert queue.history(bea) == []
    card = queue.again(ann, items[0])
    assert card.previous == {"choice": "compared", "strength": 1}
    queue.submit(ann, Submission(items[0], "compared", "a-changed-mind", strength=-3))
    assert queue.again(ann, items[0]).previous == {"choice": "compared", "strength": -3}
    with pytest.raises(Refused, match="not given to you"):
        queue.again(bea, items[0])
