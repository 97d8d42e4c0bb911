"""Answers that are good or bad by themselves, read from every form that says so."""

import logging

import pytest

from tests.conftest import write_jsonl
from workbench.data.readers import read_rated_answers
from workbench.data.splits import load_answers
from workbench.run.errors import WorkbenchError

GOOD, BAD = ("Yes", True), ("No", False)


def user(text="Hi"):
    return [{"role": "user", "content": text}]


def own(**values):
    sides = {side: [{"role": "assistant", "content": text}] for side, text in (("chosen", "Yes"), ("rejected", "No"))}
    return {"id": "1", "group": "g", "prompt": user(), **sides, **values}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (
            [{"prompt": "Hi", "response": "Yes", "label": True}, {"prompt": "Ho", "response": "No", "label": 0}],
            [GOOD, BAD],
        ),
        ([{"prompt": "Hi", "completion": "No", "kto_tag": "undesirable"}], [BAD]),
        ([{"prompt": "Hi", "chosen": "Yes", "rejected": "No"}], [GOOD, BAD]),
        ([{"prompt": "Hi", "response_a": "No", "response_b": "Yes", "winner": "b"}], [BAD, GOOD]),
        ([{"prompt": "Hi", "response_a": "No", "response_b": "Nay", "winner": "tie (bothbad)"}], [BAD, ("Nay", False)]),
        ([own(strength=2)], [GOOD, BAD]),
        (
            [{"prompt": "Hi", "response": text, "rating": r} for text, r in (("Yes", 5), ("So", 3), ("No", 1))],
            [GOOD, BAD],
        ),
        ([{"prompt": "Hi", "responses": [{"text": "No", "rating": 1}, {"text": "Yes", "rating": 9}]}], [BAD, GOOD]),
    ],
)
def test_answers_and_their_marks(tmp_path, rows, expected):
    records = read_rated_answers(write_jsonl(tmp_path / "rated.jsonl", rows))
    assert [(record.response, record.desirable) for record in records] == expected


def test_ties_say_nothing_and_middling_ratings_are_counted(tmp_path, caplog):
    pairs = [{"prompt": "Hi", "response_a": "A", "response_b": "B", "winner": w} for w in ("tie", "a")]
    assert len(read_rated_answers(write_jsonl(tmp_path / "ties.jsonl", pairs))) == 2
    rated = [{"prompt": "Hi", "response": str(r), "rating": r} for r in (1, 3, 5)]
    with caplog.at_level(logging.WARNING):
        read_rated_answers(write_jsonl(tmp_path / "rated.jsonl", rated))
    assert "1 of 3 answers are rated 3, neither good nor bad" in caplog.text


def test_a_pairs_weight_group_and_side_are_kept(tmp_path):
    records = read_rated_answers(write_jsonl(tmp_path / "own.jsonl", [own(weight=0.4, split="heldout")]))
    assert {(record.weight, record.group, record.split) for record in records} == {(0.4, "g", "heldout")}


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        ([{"prompt": "Hi", "response": "Yes"}], "nobody's judgement"),
        ([{"prompt": "Hi", "response_a": "A", "response_b": "B", "winner": "tie"}], "no answer is good or bad"),
        ([{"prompt": "Hi", "response": "A", "rating": 3}], "no answer is good or bad"),
    ],
)
def test_answers_without_a_judgement_are_refused(tmp_path, rows, error):
    with pytest.raises(WorkbenchError, match=error):
        read_rated_answers(write_jsonl(tmp_path / "rated.jsonl", rows))


def test_both_kinds_are_needed_on_both_sides(tmp_path):
    rows = [{"prompt": f"Q{n}", "response": "A", "label": True} for n in range(20)]
    with pytest.raises(WorkbenchError, match=r"\d+ good and 0 bad answers to train on"):
        load_answers(write_jsonl(tmp_path / "good.jsonl", rows), None, heldout_share=0.3, seed=0)
    rows += [{"prompt": f"Q{n}", "response": "B", "label": False} for n in range(20)]
    split = load_answers(write_jsonl(tmp_path / "both.jsonl", rows), None, heldout_share=0.3, seed=0)
    assert not {answer.group for answer in split.train} & {answer.group for answer in split.heldout}
    assert len(split.train) + len(split.heldout) == 40
