"""What an answer may hold, and that it is stored in the order of the item, whatever the display was."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from annotate.config import QueueSection
from annotate.intake.items import load_items
from annotate.queue.rules import Queue, Refused, Submission
from annotate.queue.submission import Span, check, check_marks
from annotate.store.database import Store
from annotate.store.statements import Annotator
from tests.annotate.conftest import Clock, label, make_item, open_card
from workbench.data.records import Item, Response

Account = Callable[..., Annotator]
Load = Callable[..., None]


@pytest.fixture
def store(either_store: Store) -> Store:
    return either_store


@pytest.fixture
def queue(store: Store, clock: Clock) -> Queue:
    return Queue(store, QueueSection(lease_seconds=60), clock=clock)


def test_sides_are_random_stored_and_taken_out_of_the_strength(
    store: Store, queue: Queue, account: Account, load: Load
) -> None:
    load(100)
    ann = account("ann")
    for _ in range(100):
        card = open_card(queue, ann)
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
            card = open_card(queue, who)
            assert open_card(queue, who).left == card.left
            sides[name].append(card.left.text)
            queue.submit(who, Submission(card.item, "compared", strength=0, client_key=f"{name}-{card.item:06}"))
    assert sides["ann"] != sides["bea"]


@pytest.mark.parametrize(
    ("choice", "strength", "key", "problem"),
    [
        ("compared", 4, "a-good-key", "strength_range, given 4"),
        ("compared", None, "a-good-key", "^strength$"),
        ("skipped", 1, "a-good-key", "^strength$"),
        ("best", None, "a-good-key", "choice, allowed compared"),
        ("skipped", None, "short", "^key$"),
    ],
)
def test_bad_answers_are_refused(
    queue: Queue, account: Account, load: Load, choice: str, strength: int | None, key: str, problem: str
) -> None:
    load(1)
    ann = account("ann")
    item = open_card(queue, ann).item
    with pytest.raises(Refused, match=problem):
        queue.submit(ann, Submission(item, choice, strength=strength, client_key=key))  # type: ignore[arg-type]


def _of_answers(count: int) -> Item:
    item = make_item("many")
    responses = tuple(Response(id=str(n), text=f"answer {n}") for n in range(count))
    return item.model_copy(update={"responses": responses})


def test_a_ranking_is_stored_in_the_items_own_order(store: Store, queue: Queue, account: Account) -> None:
    load_items(store, [_of_answers(4)], QueueSection(overlap=8, overlap_share=1, compare="ranking"))
    orders = set()
    for name in ("ann", "bea", "cid", "dan"):
        who = account(name)
        card = open_card(queue, who)
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
        card = open_card(queue, ann)
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
    card = open_card(queue, ann)
    edit = {"edited_text": card.left.text, "edited_response": 0}
    queue.submit(ann, Submission(card.item, "compared", "a-good-key", strength=-1, **edit))  # type: ignore[arg-type]
    with store.read() as transaction:
        (judgement,) = transaction.current_judgements()
    assert (judgement.edited_text, judgement.edited_response) == (None, None)


@pytest.mark.parametrize(
    ("answers", "fields", "problem"),
    [
        (2, {"choice": "ranked", "ranking": (1, 2)}, "compare_them"),
        (3, {"choice": "compared", "strength": 1}, "rank_them, answers 3"),
        (3, {"choice": "ranked"}, "^ranking$"),
        (3, {"choice": "skipped", "ranking": (1, 2, 3)}, "^ranking$"),
        (3, {"choice": "ranked", "ranking": (1, 2)}, "ranks, given 2, answers 3"),
        (3, {"choice": "ranked", "ranking": (2, 3, 2)}, "rank_range"),
        (3, {"choice": "ranked", "ranking": (1, 2, 4)}, "rank_range, answers 3"),
        (3, {"choice": "both_bad", "rubric": {"honest": 1}}, "^rubric$"),
        (2, {"choice": "both_bad", "rubric": {"honest": 4}}, "dimension_range, name honest, given 4"),
        (2, {"choice": "both_bad", "rubric": {"": 1}}, "dimension_name"),
        (2, {"choice": "both_bad", "rubric": {str(n): 1 for n in range(17)}}, "dimensions, most 16, given 17"),
        (2, {"choice": "both_bad", "edited_text": "x"}, "^edit$"),
        (2, {"choice": "both_bad", "edited_response": 1}, "^edit$"),
        (2, {"choice": "both_bad", "edited_text": "x", "edited_response": 2}, "edit_place, last 1, given 2"),
        (2, {"choice": "both_bad", "edited_text": "  ", "edited_response": 1}, "edit_empty"),
        (2, {"choice": "both_bad", "flag": "ugly"}, "flag, allowed pii, unsafe, broken, given ugly"),
        (2, {"choice": "both_bad", "reason": "because"}, "^reason$"),
        (2, {"choice": "skipped", "reason": "x" * 501}, "long, name reason, most 500, given 501"),
        (2, {"choice": "skipped", "comment": "NUL \x00"}, "characters, name comment"),
        (2, {"choice": "skipped", "seconds": float("nan")}, "seconds, given nan"),
    ],
)
def test_answers_that_make_no_sense_are_refused(answers: int, fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(Refused, match=problem):
        check(Submission(1, client_key="a-good-key", **fields), answers)


def test_reasons_and_spans_are_stored_in_the_items_own_order(
    store: Store, queue: Queue, account: Account, load: Load
) -> None:
    load(12)
    with store.write() as transaction:
        transaction.offer_reasons(["wrong fact"])
        transaction.offer_reasons(["unsafe"])  # a later page; answers to the earlier one may still arrive
    ann, sides = account("ann"), set()
    for number in range(12):
        card = open_card(queue, ann)
        first = 1 if card.left.text == "second answer" else 0  # where the item's first answer stands
        sides.add(first)
        spans = (Span(first, 0, 5, "wrong fact"), Span(1 - first, 7, 13, "unsafe"))
        marks = {"reasons": ("unsafe",), "spans": spans, "differences_shown": True}
        queue.submit(ann, Submission(card.item, "skipped", f"key-{number:05}", **marks))  # type: ignore[arg-type]
        assert queue.again(ann, card.item).previous == {
            "choice": "skipped",
            "strength": None,
            "reasons": ["unsafe"],
            "spans": [{"answer": s.answer, "start": s.start, "end": s.end, "label": s.label} for s in spans],
            "differences_shown": True,
        }
    assert sides == {0, 1}
    with store.read() as transaction:
        stored = {(j.reasons, j.spans, j.differences_shown) for j in transaction.current_judgements()}
    ((reasons, spans_text, shown),) = stored
    assert (json.loads(reasons or ""), shown) == (["unsafe"], True)
    assert json.loads(spans_text or "") == [
        {"answer": 0, "start": 0, "end": 5, "label": "wrong fact"},
        {"answer": 1, "start": 7, "end": 13, "label": "unsafe"},
    ]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"reasons": ("ugly",)}, "mark_label, given ugly, offered unsafe"),
        ({"reasons": ("unsafe", "unsafe")}, "mark_twice"),
        ({"reasons": tuple(map(str, range(10)))}, "marks, reasons 9"),
        ({"spans": (Span(0, 0, 1, "ugly"),)}, "mark_label, given ugly"),
        ({"spans": (Span(0, 0, 1, "unsafe"),) * 2}, "mark_twice"),
        ({"spans": (Span(2, 0, 1, "unsafe"),)}, "span_place, last 1, given 2"),
        ({"spans": (Span(-1, 0, 1, "unsafe"),)}, "span_place"),
        ({"spans": (Span(0, 1, 1, "unsafe"),)}, "span_range, length 2, start 1, end 1"),
        ({"spans": (Span(0, -1, 1, "unsafe"),)}, "span_range"),
        (
            {"spans": (Span(0, 0, 3, "unsafe"),)},
            "span_range, length 2, start 0, end 3",
        ),  # 4 UTF-16 units, 2 code points
        ({"spans": tuple(Span(1, n, n + 1, "unsafe") for n in range(201))}, "marks, reasons 9, spans 200"),
    ],
)
def test_marks_that_make_no_sense_are_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(Refused, match=problem):
        check_marks(Submission(1, "both_bad", "a-good-key", **fields), ["\U0001f600\U0001f600", "x" * 300], ["unsafe"])


def test_labels_that_no_page_offered_are_refused(queue: Queue, account: Account, load: Load) -> None:
    load(1)
    ann = account("ann")
    item = open_card(queue, ann).item
    with pytest.raises(Refused, match="mark_label"):
        queue.submit(ann, Submission(item, "both_bad", "a-good-key", reasons=("anything",)))


def test_own_history_and_an_earlier_answer_again(queue: Queue, account: Account, load: Load, clock: Clock) -> None:
    load(3, overlap=2)
    ann, bea = account("ann"), account("bea")
    items = []
    for strength in (1, -2):
        items.append(label(queue, ann, strength))
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
    with pytest.raises(Refused, match="not_given"):
        queue.again(bea, items[0])
