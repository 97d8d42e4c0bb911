"""The guard in contrastive training, at each evaluation: as in PPO."""

import pytest

import ppo.guard.answers as answers
import ppo.guard.sources as sources
from ppo.config import ContrastiveConfig
from ppo.contrastive.train import train
from ppo.guard.decide import best_of
from ppo.inputs import check_contrastive_inputs
from tests.conftest import load_phase
from tests.ppo.contrastive.conftest import interrupted_and_resumed
from tests.ppo.guard.conftest import rows_of, same_adapters
from workbench.run.errors import Problems, WorkbenchError


@pytest.fixture
def configure(tmp_path, sft_run, preference_file, judge_run, small_observations):
    """Reads a small guarded configuration: folder, then `a.b=value` overrides."""

    def configured(name, *overrides):
        values = {
            "method": "dpo",
            "run": {"dir": str(tmp_path / name), "seed": 0, "threads": 1},
            "model": {"start": str(sft_run)},
            "data": {"train": str(preference_file), "max_length": 128},
            "loss": {"beta": 0.3},
            "evaluation": {"every": 1, "prompts": 4, "max_new_tokens": 8},
            "train": {"lr": 0.005, "max_steps": 6, "epochs": 6.0, "batch_size": 8, "micro_batch_size": 8},
            "checkpoint": {"every": 2},
            "guard": {"judge": str(judge_run)},
            "tracking": {"wandb": "disabled", "log_every": 1},
        }
        return load_phase(ContrastiveConfig, tmp_path / f"{name}.yaml", values, *overrides)

    return configured


def test_too_few_answers_are_refused(configure, monkeypatch):
    monkeypatch.setattr(sources, "FEWEST_ANSWERS", 5)
    check_contrastive_inputs(configure("few"), problems := Problems())
    (error,) = problems.errors
    assert "evaluation.prompts: gives the guard 4 answers to judge" in str(error)


@pytest.mark.slow
def test_too_few_held_out_prompts_are_an_error_before_training(configure, monkeypatch):
    monkeypatch.setattr(sources, "FEWEST_ANSWERS", 1000)
    with pytest.raises(WorkbenchError, match=r"data.heldout: gives the guard \d+ answers"):
        train(configure("few", "evaluation.prompts=1000"), resume=False)


@pytest.mark.slow
def test_a_guard_that_only_watches_changes_nothing(configure):
    watched = train(configure("watched", "guard.act=say"), resume=False)
    alone = train(configure("alone", "guard.judge=[]"), resume=False)
    rows, metrics = rows_of(watched)
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4, 5, 6]
    assert (rows[0]["kl"], rows[0]["score"]) == (0.0, None), "no reward model is optimised"
    assert rows[0]["entropy"] > 0
    assert [row for row in metrics if "guard/judge" not in row] == rows_of(alone)[1]
    assert same_adapters(watched.adapter, alone.adapter)


@pytest.mark.slow
def test_a_stop_goes_back_and_says_so(configure, alarm, monkeypatch):
    alarm(5)
    run = train(configure("whole"), resume=False)
    assert run.record()["status"] == "rolled back"
    rows, metrics = rows_of(run)
    best = rows[best_of(rows)]["step"]
    assert run.record()["guard"] == {"stopped_at": 5, "back_to": best}
    assert same_adapters(run.adapter, run.path / f"guard/step-{best}")
    assert (rows[-1]["action"], metrics[-1]["step"]) == ("stop", 5)
    assert f"policy of step {best}" in (run.path / "README.md").read_text()
    again = interrupted_and_resumed(configure("stopped"), monkeypatch)
    assert rows_of(again) == (rows, metrics)
    assert same_adapters(again.adapter, run.adapter)


@pytest.mark.slow
def test_a_larger_beta_survives_a_stop(configure, alarm, monkeypatch):
    alarm(1)
    raised, original = [], answers.AnswerGuard._raise_beta

    def noted(self):
        original(self)
        raised.append(self.trainer.section.beta)

    monkeypatch.setattr(answers.AnswerGuard, "_raise_beta", noted)
    whole = train(configure("whole", "guard.act=beta"), resume=False)
    assert raised == pytest.approx([0.45])
    again = interrupted_and_resumed(configure("stopped", "guard.act=beta"), monkeypatch)
    assert rows_of(again) == rows_of(whole)
    assert same_adapters(again.adapter, whole.adapter)


def test_what_cannot_be_guarded_is_said(configure):
    with pytest.raises(WorkbenchError, match=r"evaluation\.every: is 0, but the guard reads"):
        train(configure("blind", "evaluation.every=0"), resume=False)
    with pytest.raises(WorkbenchError, match=r"guard\.act: is beta"):
        train(configure("slic", "method=slic", "guard.act=beta"), resume=False)
