"""The guard in PPO: it changes nothing while it watches, raises the KL penalty, or stops and goes back; and a stop in
between changes nothing."""

import json

import numpy as np
import pytest

import ppo.guard.sources as sources
import ppo.train as phase
from ppo.config import PpoConfig
from ppo.guard.decide import best_of
from ppo.guard.measure import Answers, labelled_cloud, observe
from ppo.inputs import check_inputs
from ppo.train import train
from tests.conftest import load_phase
from tests.ppo.conftest import ppo_values
from tests.ppo.guard.conftest import rows_of, same_adapters
from workbench.model.open import open_runs
from workbench.model.score import score_rows
from workbench.run.errors import Problems, WorkbenchError


@pytest.fixture
def configure(tmp_path, sft_run, reward_run, prompt_file, judge_run, small_observations):
    """Reads a small guarded configuration: folder, then `a.b=value` overrides."""

    def configured(name, *overrides):
        values = ppo_values(tmp_path / name, sft_run, reward_run, prompt_file)
        values["guard"] = {"judge": str(judge_run)}
        return load_phase(PpoConfig, tmp_path / f"{name}.yaml", values, *overrides)

    return configured


def stopped_and_resumed(config, monkeypatch, *, in_iteration):
    """The run after an interruption."""
    collect, calls = phase.collect, []

    def dies(*arguments, **options):
        calls.append(1)
        if len(calls) == in_iteration:
            raise LookupError("a bolt from the blue")
        return collect(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(phase, "collect", dies)
        with pytest.raises(LookupError):
            train(config, resume=False)
    return train(config, resume=True)


@pytest.mark.slow
def test_a_guard_that_only_watches_changes_nothing(configure):
    watched = train(configure("watched", "guard.act=say", "guard.every=2"), resume=False)
    alone = train(configure("alone", "guard.judge=[]"), resume=False)
    rows, metrics = rows_of(watched)
    assert [row["step"] for row in rows] == [0, 2, 4]
    assert {"judge", "judge_error", "spread", "outliers", "kl", "risk", "signals", "action"} <= rows[0].keys()
    assert [row for row in metrics if "guard/judge" not in row] == rows_of(alone)[1]
    assert same_adapters(watched.adapter, alone.adapter)
    assert watched.record()["parents"].keys() == {"start", "reward_1", "judge_1"}
    assert not alone.guard_path.exists()
    assert not (watched.path / "guard").exists(), "no policy is kept to go back to"


@pytest.mark.slow
def test_a_stop_goes_back_and_says_so(configure, alarm, monkeypatch, capsys):
    alarm(4)
    run = train(configure("whole"), resume=False)
    assert run.record()["status"] == "rolled back"
    rows, metrics = rows_of(run)
    best = rows[best_of(rows)]["step"]
    assert run.record()["guard"] == {"stopped_at": 4, "back_to": best}
    assert "guard, step 4: because" in capsys.readouterr().out
    assert same_adapters(run.adapter, run.path / f"guard/step-{best}")
    assert run.require_finished() == run
    assert (rows[-1]["action"], rows[-1]["back_to"]) == ("stop", best)
    assert metrics[-1]["step"] == 4, "the last evaluation is of the policy that it went back to"
    assert "step 4" in (run.path / "README.md").read_text()
    again = stopped_and_resumed(configure("stopped"), monkeypatch, in_iteration=4)
    assert rows_of(again) == (rows, metrics)
    assert same_adapters(again.adapter, run.adapter)


@pytest.mark.slow
def test_a_raised_penalty_survives_a_stop(configure, alarm, monkeypatch):
    alarm(1)
    changes = ("guard.act=beta", "guard.beta_factor=3", "reward.kl_coef=0.1")
    whole = train(configure("whole", *changes), resume=False)
    coefficients = [row["objective/kl_coef"] for row in whole.read_metrics() if "objective/kl_coef" in row]
    assert coefficients == pytest.approx([0.1, *[0.3] * 5])
    again = stopped_and_resumed(configure("stopped", *changes), monkeypatch, in_iteration=6)
    assert rows_of(again) == rows_of(whole)


def test_observations_that_show_nothing_are_refused(configure, monkeypatch):
    monkeypatch.setattr(sources, "FEWEST_ANSWERS", 9)
    check_inputs(configure("few", "guard.every=6"), problems := Problems())
    few, never = map(str, problems.errors)
    assert "rollout.batch_size: gives the guard 8 answers to judge" in few
    assert "guard.every: is 6, so that a run of 6 iterations is only observed at its start" in never
    check_inputs(configure("unguarded", "guard.every=6", "guard.judge=[]"), problems := Problems())
    check_inputs(configure("enough", "guard.every=5", "rollout.batch_size=16"), problems)
    assert not problems.errors


def test_judges_that_know_the_training_labels_are_refused(configure, reward_run, tmp_path):
    with pytest.raises(WorkbenchError, match="would share its mistakes"):
        train(configure("same", f"guard.judge={reward_run}"), resume=False)
    with pytest.raises(WorkbenchError, match="no run here"):
        train(configure("missing", f"guard.judge={tmp_path / 'nothing'}"), resume=False)
    with pytest.raises(WorkbenchError, match=r"reward\.kl_target"):
        train(configure("target", "guard.act=beta", "reward.kl_target=3"), resume=False)


def test_rows_are_json(configure):
    run = train(configure("short", "train.iterations=2"), resume=False)
    text = run.guard_path.read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert [json.loads(line)["action"] for line in text.splitlines()] == ["go on"] * 2


@pytest.mark.slow
def test_agreement_with_the_judges_is_that_of_their_scores(reward_run, judge_run):
    roles = open_runs({"reward_1": reward_run, "judge_1": judge_run})
    rows = [list(range(5, 5 + length)) for length in range(3, 15)]
    judged = score_rows(roles, "judge_1", rows, batch_size=4).double().numpy()
    cloud = labelled_cloud(roles, "reward_1", rows, batch_size=4)

    def agreement(*scores):
        numbers = {"logratios": judged, "length": 5.0, "entropy": 1.0, "kl": 0.0}
        answers = Answers(rows, np.array(scores).reshape(-1, len(rows)), **numbers)
        return observe(roles, ["judge_1"], "reward_1", cloud, answers, step=0, batch_size=4).reward_agreement

    assert agreement(2 * judged + 1) == pytest.approx(1.0)
    assert agreement(-judged) == pytest.approx(-1.0)
    assert agreement(judged, -3 * judged) == pytest.approx(-1.0), "that of the mean of the reward models"
    assert agreement() is None
