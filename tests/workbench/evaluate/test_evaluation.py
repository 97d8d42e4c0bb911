"""evaluation.json is written atomically, read back equal, and refused with a remedy if broken."""

import json

import pytest

from tests.workbench.evaluate.fakes import (
    FakePolicy,
    gold,
    make_demonstrations,
    make_preference,
    make_prompts,
    score,
    write_run,
)
from workbench.evaluate.evaluation import Evaluation, read_evaluation
from workbench.evaluate.policy import Opponent, evaluate_policy
from workbench.evaluate.reward_model import evaluate_reward_model
from workbench.run.errors import WorkbenchError


def full_evaluation(run):
    own = evaluate_policy(FakePolicy("bad"), make_prompts(6))
    policy = evaluate_policy(
        FakePolicy(),
        make_prompts(6),
        demonstrations=make_demonstrations(3),
        gold=gold,
        score=score,
        opponent=Opponent("sft", own.answers),
    )
    reward = evaluate_reward_model(score, [make_preference(0, "good good", "bad")], gold=gold)
    return Evaluation(str(run), "ppo", 0, {"prompts": "p.jsonl"}, policy=policy, reward_model=reward)


def test_written_and_read_back_equal(tmp_path):
    run = write_run(tmp_path / "ppo", phase="ppo")
    evaluation = full_evaluation(run)
    evaluation.save(run / "evaluation.json")
    assert read_evaluation(run) == evaluation
    plain = json.loads((run / "evaluation.json").read_text())
    assert plain["policy"]["gold"]["mean"] == evaluation.policy.gold.mean
    assert sorted(p.name for p in run.iterdir()) == ["config.yaml", "evaluation.json", "run.json"]


def test_same_bytes_twice(tmp_path):
    for name in ("a.json", "b.json"):
        full_evaluation("runs/ppo").save(tmp_path / name)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_run_not_evaluated(tmp_path):
    run = write_run(tmp_path / "ppo", phase="ppo")
    with pytest.raises(WorkbenchError, match="not been evaluated") as caught:
        read_evaluation(run)
    assert caught.value.remedy == f"python -m workbench evaluate {run}"


def test_no_run(tmp_path):
    write_run(tmp_path / "sft", phase="sft")
    with pytest.raises(WorkbenchError, match="no run here") as caught:
        read_evaluation(tmp_path / "stf")
    assert "sft" in caught.value.remedy


def test_broken_file(tmp_path):
    run = write_run(tmp_path / "ppo", phase="ppo")
    (run / "evaluation.json").write_text('{"run": "x", "phase": "ppo", "sources": {}}')
    with pytest.raises(WorkbenchError, match="seed: Field required") as caught:
        read_evaluation(run)
    assert "python -m workbench evaluate" in caught.value.remedy
