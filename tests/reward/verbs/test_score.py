"""Scores of whole files: the same as in PPO, in the order of the file, also after interruptions."""

import json
import random

import pytest
import torch

import reward.verbs.score as scoring
from reward.__main__ import main
from reward.verbs.score import score_file
from tests.conftest import write_jsonl
from workbench.data.readers import read_preferences
from workbench.data.records import Message
from workbench.data.tokenise import encode_prompt, encode_response
from workbench.model.open import open_runs
from workbench.run.errors import WorkbenchError

FLOAT32 = {"rel": 1e-4, "abs": 1e-4}
"""Padding and batch shape change the order of sums."""


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Answers of very different lengths, unordered."""
    rng = random.Random(0)
    rows = [
        {"id": f"a{n}", "prompt": f"Where is my parcel {n}?", "response": "It is safe. " * rng.randint(1, 9)}
        for n in range(23)
    ]
    return write_jsonl(tmp_path_factory.mktemp("answers") / "answers.jsonl", rows)


def ppo_score(roles, prompt, response):
    """One unpadded row through the call that PPO's rollout makes."""
    messages = [Message(role="user", content=prompt)]
    ids = torch.tensor(
        [[*encode_prompt(roles.tokenizer, messages), *encode_response(roles.tokenizer, messages, response)]]
    )
    return float(roles.scores("reward", ids, torch.ones_like(ids).bool()))


def test_scores_are_those_of_ppo_whatever_batch_and_window(reward_run, answers, tmp_path):
    roles = open_runs({"reward": reward_run})
    expected = [ppo_score(roles, row["prompt"], row["response"]) for row in lines(answers)]
    assert max(expected) - min(expected) > 0.1
    for number, options in enumerate(({"batch_size": 64}, {"batch_size": 3, "window": 7}, {"batch_tokens": 60})):
        out = tmp_path / f"{number}.jsonl"
        done = score_file(reward_run, answers, out, quiet=True, **options)
        assert (done.rows, done.resumed, done.left_out) == (23, 0, 0)
        assert [line["id"] for line in lines(out)] == [f"a{n}" for n in range(23)]
        assert [line["score"] for line in lines(out)] == pytest.approx(expected, **FLOAT32)


def test_pairs_items_and_rows_without_an_answer(reward_run, preference_file, tmp_path):
    roles = open_runs({"reward": reward_run})
    score_file(reward_run, preference_file, tmp_path / "pairs.jsonl", quiet=True)
    record, line = read_preferences(preference_file)[0], lines(tmp_path / "pairs.jsonl")[0]
    assert line["chosen"] == pytest.approx(ppo_score(roles, record.prompt[0].content, record.chosen_text), **FLOAT32)
    assert line["gap"] == line["chosen"] - line["rejected"]

    responses = [{"id": "0", "text": "It is safe.", "ended": True}, {"id": "1", "text": "It is safe", "ended": False}]
    prompt = [{"role": "user", "content": "Where?"}]
    items = write_jsonl(tmp_path / "items.jsonl", [{"id": "i", "group": "g", "prompt": prompt, "responses": responses}])
    score_file(reward_run, items, tmp_path / "scores.jsonl", quiet=True)
    whole, cut = lines(tmp_path / "scores.jsonl")[0]["scores"]
    assert whole == pytest.approx(ppo_score(roles, "Where?", "It is safe."), **FLOAT32)
    assert cut != pytest.approx(ppo_score(roles, "Where?", "It is safe"), **FLOAT32), "no EOS was given"

    rows = [{"prompt": "a", "response": "b"}, {"prompt": "a", "response": " "}]
    done = score_file(reward_run, write_jsonl(tmp_path / "r.jsonl", rows), tmp_path / "out.jsonl", quiet=True)
    assert done.left_out == 1
    assert lines(tmp_path / "out.jsonl")[1]["left_out"] == "'response' is empty"


def test_an_answer_beyond_the_positions_is_left_out_and_named(reward_run, tmp_path):
    texts = {"a": "Safe.", "long": "x" * 260}
    rows = [{"id": name, "prompt": "Where?", "response": text} for name, text in texts.items()]
    done = score_file(reward_run, write_jsonl(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl", quiet=True)
    first, second = lines(tmp_path / "out.jsonl")
    assert done.left_out == 1
    assert first["id"] == "a"
    assert second["place"] == "long"
    assert second["left_out"].endswith("tokens, and the base has 256 positions")


def test_an_interrupted_file_goes_on_and_ends_the_same(reward_run, answers, tmp_path, monkeypatch):
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    score_file(reward_run, answers, whole, window=5, quiet=True)
    windows, real = [], scoring.scored_lines

    def interrupted(roles, names, records, **options):
        windows.append(len(records))
        if len(windows) == 3:
            raise KeyboardInterrupt
        return real(roles, names, records, **options)

    with monkeypatch.context() as patch:
        patch.setattr(scoring, "scored_lines", interrupted)
        with pytest.raises(KeyboardInterrupt):
            score_file(reward_run, answers, out, window=5, quiet=True)
    assert not out.exists()
    partial = tmp_path / ".out.jsonl.partial"
    with partial.open("ab") as file:
        file.write(b'{"id": "a10", "sc')  # as if killed in the middle of a line
    done = score_file(reward_run, answers, out, window=5, quiet=True)
    assert done.resumed == 10
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "whole.jsonl"]


def test_the_partial_output_of_another_file_is_not_gone_on_with(reward_run, answers, preference_file, tmp_path):
    out = tmp_path / "out.jsonl"
    (tmp_path / ".out.jsonl.partial").write_text('{"id": "x"}\n', encoding="utf-8")
    (tmp_path / ".out.jsonl.partial.json").write_text("another mark\n", encoding="utf-8")
    assert score_file(reward_run, answers, out, quiet=True).resumed == 0
    assert len(lines(out)) == 23
    with pytest.raises(WorkbenchError, match="exists already"):
        score_file(reward_run, answers, out, quiet=True)


def test_a_broken_row_stops_before_anything_is_scored(reward_run, answers, tmp_path):
    broken = tmp_path / "broken.jsonl"
    broken.write_bytes(answers.read_bytes() + b"{broken\n")
    with pytest.raises(WorkbenchError, match="line 24: broken JSON"):
        score_file(reward_run, broken, tmp_path / "out.jsonl", window=10, quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == ["broken.jsonl"]


def test_the_command(reward_run, answers, tmp_path, capsys):
    assert main(["score", str(reward_run), str(answers), "--out", str(tmp_path / "s.jsonl"), "--batch-size", "8"]) == 0
    assert "23 rows" in capsys.readouterr().out
    assert len(lines(tmp_path / "s.jsonl")) == 23


def test_an_ensemble_scores_the_mean_and_tells_the_spread(reward_run, answers, tmp_path, monkeypatch):
    """Two members; the second is a copy with its head doubled: the mean is 1½ times the raw score, the spread ½."""
    members = {"reward_1": reward_run, "reward_2": reward_run}
    monkeypatch.setattr(scoring, "reward_roles", lambda run: members)
    real = scoring.open_runs

    def steeper(runs, base):
        roles = real(runs, base=base)
        roles.heads["reward_2"].gain.mul_(2)
        roles.heads["reward_2"].offset.mul_(2)
        return roles

    monkeypatch.setattr(scoring, "open_runs", steeper)
    score_file(reward_run, answers, tmp_path / "two.jsonl", quiet=True)
    roles = open_runs({"reward": reward_run})
    for row, line in zip(lines(answers), lines(tmp_path / "two.jsonl"), strict=True):
        single = ppo_score(roles, row["prompt"], row["response"])
        assert line["score"] == pytest.approx(1.5 * single, **FLOAT32)
        assert line["spread"] == [pytest.approx(0.5 * abs(single), **FLOAT32)]
