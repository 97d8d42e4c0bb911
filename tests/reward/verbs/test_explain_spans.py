"""Marked passages under token shares: the measure by hand, and a reward model that knows what was marked."""

import json
import re

import numpy as np
import pytest

from reward.__main__ import main
from reward.verbs.explain_spans import marked_answers, token_ends
from reward.verbs.span_agreement import MarkedShares, lower_auc, marked_tokens, measure
from tests.conftest import BAD, GOOD, QUESTIONS, THINGS
from workbench.data.readers import read_preferences
from workbench.data.records import Message, Span
from workbench.data.tokenise import encode_response
from workbench.model.open import open_runs
from workbench.run.errors import WorkbenchError


def test_the_area_by_hand() -> None:
    shares, marked = np.array([-1.0, 2.0, 0.0, 0.0]), np.array([True, False, True, False])
    # Marked −1 and 0, others 2 and 0: −1 < 2, −1 < 0, 0 < 2 count 1 each, 0 = 0 counts ½: 3.5 of 4.
    assert lower_auc(shares, marked) == 3.5 / 4
    assert lower_auc(-shares, marked) == 0.5 / 4
    assert lower_auc(np.zeros(4), marked) == 0.5


def test_the_area_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    for _ in range(20):
        shares, marked = rng.integers(-3, 4, size=30).astype(float), rng.random(30) < 0.3
        assert lower_auc(shares, marked) == pytest.approx(roc_auc_score(marked, -shares))


def test_tokens_that_overlap_a_passage_are_marked() -> None:
    ends = [2, 5, 5, 9]  # tokens [0, 2), [2, 5), an empty one, [5, 9)
    assert marked_tokens(ends, [(3, 4)]).tolist() == [False, True, False, False]
    assert marked_tokens(ends, [(0, 1), (5, 6)]).tolist() == [True, False, False, True]
    assert marked_tokens(ends, [(1, 9)]).tolist() == [True, True, True, True]


@pytest.mark.parametrize(("effect", "low", "high"), [(-1.0, 0.7, 0.82), (0.0, 0.45, 0.55), (1.0, 0.18, 0.3)])
def test_marks_that_say_something_leave_the_control_behind(effect: float, low: float, high: float) -> None:
    rng = np.random.default_rng(1)
    answers = []
    for number in range(100):
        start, marked = int(rng.integers(30)), np.zeros(40, dtype=bool)
        marked[start : start + 8] = True
        # Shares are normal, shifted by the effect: P(marked < other) = Φ(1 / √2) = 0.76 for −1.
        answers.append(MarkedShares(str(number), rng.normal(size=40) + effect * marked, marked))
    found = measure(answers, seed=0)
    assert low < found.auc.mean < high
    assert found.auc.low < found.auc.mean < found.auc.high
    assert found.control[0] == pytest.approx(0.5, abs=0.02)
    outside = not found.control[1] <= found.auc.mean <= found.control[2]
    assert outside == (effect != 0.0)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory):
    """Answers of a good and a bad sentence in either order; people marked the bad one."""
    lines = []
    for question in QUESTIONS:
        for number, thing in enumerate(THINGS[:4]):
            sentences = [GOOD.format(thing), BAD.format(thing)]
            text = " ".join(sentences if number % 2 else sentences[::-1])
            start = text.index(BAD.format(thing))
            spans = [{"answer": "rejected", "start": start, "end": start + len(BAD.format(thing)), "label": "no help"}]
            lines.append(
                {
                    "id": f"{question} {thing}",
                    "group": thing,
                    "prompt": [{"role": "user", "content": question.format(thing)}],
                    "chosen": [{"role": "assistant", "content": GOOD.format(thing)}],
                    "rejected": [{"role": "assistant", "content": text}],
                    "spans": spans,
                }
            )
    path = tmp_path_factory.mktemp("spans") / "pairs.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_a_reward_model_that_dislikes_what_was_marked_agrees(reward_run, pairs, tmp_path, capsys) -> None:
    page = tmp_path / "spans.html"
    assert main(["explain", str(reward_run), "--spans", str(pairs), "--out", str(page), "--answers", "8"]) == 0
    said = capsys.readouterr().out
    auc, control = (float(value) for value in re.findall(r"probability ([0-9.]+) .*marks ([0-9.]+) ", said)[0])
    assert "8 of 12 marked answers" in said
    assert auc > 0.7
    assert control == pytest.approx(0.5, abs=0.06)
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=|https?://|<script", text), "nothing is fetched"
    assert text.count("<article>") == 8
    marked = "".join(
        re.findall(r"<mark[^>]*>([^<]*)</mark>", text.partition("<article>")[2].partition("</article>")[0])
    )
    assert marked.strip() == BAD.format("order")


def test_the_good_sentence_is_no_such_passage(reward_run, pairs, tmp_path, capsys) -> None:
    rows = [json.loads(line) for line in pairs.read_text(encoding="utf-8").splitlines()][:4]
    for row in rows:
        text, good = row["rejected"][0]["content"], GOOD.format(row["group"])
        row["spans"] = [
            {"answer": "rejected", "start": text.index(good), "end": text.index(good) + len(good), "label": "x"}
        ]
    path = tmp_path / "good.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    main(["explain", str(reward_run), "--spans", str(path), "--out", str(tmp_path / "spans.html")])
    assert float(re.findall(r"probability ([0-9.]+) ", capsys.readouterr().out)[0]) < 0.4


def test_tokens_are_placed_in_the_text(reward_run) -> None:
    tokenizer = open_runs({"reward": reward_run}).tokenizer
    messages, text = (Message(role="user", content="a"),), GOOD.format("order")
    ids = encode_response(tokenizer, messages, text)
    ends = token_ends(tokenizer, ids, text)
    assert ends is not None
    assert (len(ends), ends[-1]) == (len(ids) - 1, len(text))
    pieces = [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    assert "".join(pieces) == text
    assert token_ends(tokenizer, ids, "another text") is None


def test_an_answer_in_several_pairs_is_explained_once(pairs) -> None:
    (record, *_) = read_preferences(pairs)
    other = record.model_copy(
        update={"id": "b", "spans": (*record.spans, Span(answer="rejected", start=0, end=2, label="y"))}
    )
    (answer,) = marked_answers([record, other])
    assert [sorted(labels) for labels in answer.passages.values()] == [["no help"], ["y"]]
    assert answer.places("y") == [(0, 2)]


def test_pairs_without_marks_and_half_a_command_are_refused(reward_run, preference_file, tmp_path) -> None:
    with pytest.raises(WorkbenchError, match="no pair has a marked passage"):
        main(["explain", str(reward_run), "--spans", str(preference_file)])
    for words in ([], ["--prompt", "a"], ["--prompt", "a", "--response", "b", "--spans", "x"]):
        with pytest.raises(WorkbenchError, match="needs --prompt and --response, or --spans"):
            main(["explain", str(reward_run), *words])
