"""A run that diverged is stopped in every phase, publishes no adapter, and is no parent of a later run."""

import itertools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import ppo.contrastive.train as contrastive
import ppo.train as ppo
import reward.train as reward
import sft.train as sft
from ppo.config import ContrastiveConfig, PpoConfig
from reward.config import RewardConfig
from sft.config import SftConfig
from tests.conftest import load_phase, reward_values, sft_values
from tests.ppo.conftest import ppo_values
from workbench.model.open import open_runs
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder

TRAIN = {SftConfig: sft.train, RewardConfig: reward.train, ContrastiveConfig: contrastive.train, PpoConfig: ppo.train}
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def configure(tmp_path, tiny_base, sft_run, reward_run, demonstration_file, preference_file, prompt_file):
    """A phase's configuration in a folder of its own: phase, start run, overrides."""
    number = itertools.count()

    def configured(phase, *overrides, start=sft_run):
        run = tmp_path / f"{phase}-{next(number)}"
        file = run.with_suffix(".yaml")
        if phase == "sft":
            return load_phase(SftConfig, file, sft_values(run, tiny_base, demonstration_file), *overrides)
        if phase == "reward":
            return load_phase(RewardConfig, file, reward_values(run, start, preference_file), *overrides)
        if phase == "ppo":
            return load_phase(PpoConfig, file, ppo_values(run, start, reward_run, prompt_file), *overrides)
        values = reward_values(run, start, preference_file)
        del values["normalise"], values["passport"]
        return load_phase(ContrastiveConfig, file, values | {"method": phase}, *overrides)

    return configured


def stopped(config):
    """Train until the error; the error and the run."""
    with pytest.raises(WorkbenchError) as caught:
        TRAIN[type(config)](config, resume=False)
    folder = RunFolder.open(config.run.dir)
    assert folder.record()["status"] == "stopped"
    assert not folder.adapter.exists(), "an adapter was published"
    return caught.value, folder


HUGE = ("train.lr=1e30", "train.warmup_share=0")


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["sft", "reward", "dpo", "slic"])
def test_a_step_far_too_long_stops_at_once(configure, phase):
    error, folder = stopped(configure(phase, *HUGE, "checkpoint.every=1"))
    assert error.place == str(folder.path)
    assert "the run diverged in step 2" in error.problem
    assert "nan" in error.problem or "inf" in error.problem
    assert "last checkpoint before it is step-1" in error.expected
    assert "train.lr" in error.remedy
    losses = [row[name] for row in folder.read_metrics() for name in row if name.endswith("/loss")]
    assert 0.0 not in losses[1:], "a loss that is not a number was logged as 0"


@pytest.mark.parametrize("phase", ["sft", "reward"])
def test_a_base_with_nan_is_blamed_before_training(configure, phase, tiny_base, sft_run, tmp_path):
    base = tmp_path / "nan-base"
    shutil.copytree(tiny_base, base)
    weights = load_file(base / "model.safetensors")
    next(w for name, w in weights.items() if "down_proj" in name)[0, 0] = float("nan")
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    if phase == "sft":
        config = configure("sft", f"model.base={base}")
    else:
        start = tmp_path / "start"
        shutil.copytree(sft_run, start)
        folder = RunFolder(start)
        record = folder.record()
        folder.update_record(base=record["base"] | {"name": str(base), "fingerprint": None})
        config = configure("reward", start=start)
    with pytest.raises(WorkbenchError) as caught:
        TRAIN[type(config)](config, resume=False)
    assert "nan" in str(caught.value).lower()
    assert "base" in str(caught.value)
    folder = RunFolder(tmp_path / config.run.dir)
    assert not folder.adapter.exists()


def test_scores_that_collapse_stop_a_reward_run(configure, monkeypatch):
    monkeypatch.setattr(reward, "_raw_scores", lambda *_: torch.full((16,), 2.5))
    error, _ = stopped(configure("reward"))
    assert "every response gets the same score, 2.5" in error.problem


@pytest.fixture
def nan_run(sft_run, tmp_path):
    """A copy of the sft run with one NaN in its adapter."""
    copy = tmp_path / "nan-run"
    shutil.copytree(sft_run, copy)
    weights = load_file(copy / "adapter" / WEIGHTS)
    next(iter(weights.values()))[0, 0] = float("nan")
    save_file(weights, copy / "adapter" / WEIGHTS, metadata={"format": "pt"})
    return copy


@pytest.mark.parametrize("phase", ["reward", "dpo", "slic", "ppo"])
def test_a_parent_that_is_not_finite_is_refused(configure, phase, nan_run):
    config = configure(phase, start=nan_run)
    with pytest.raises(WorkbenchError, match="holds NaN or infinite values in 1 tensors"):
        TRAIN[type(config)](config, resume=False)
    assert not RunFolder(Path(config.run.dir)).record_path.exists(), "refused before anything is written"


def test_a_run_that_is_not_finite_is_not_opened(nan_run):
    with pytest.raises(WorkbenchError, match="its run diverged"):
        open_runs({"policy": nan_run})


def test_ppo_stops_when_its_gradient_is_not_finite(configure):
    error, _ = stopped(configure("ppo", "train.lr=1e30"))
    assert "the run diverged in iteration 0" in error.problem


def test_ppo_stops_beyond_its_kl_limit_and_names_the_best_checkpoint(configure):
    config = configure(
        "ppo",
        "train.lr=0.05",
        "train.stop_kl=0.1",
        "checkpoint.every=1",
        "checkpoint.keep_best=1",
        "evaluation.every=1",
    )
    error, folder = stopped(config)
    assert "nats per response, above train.stop_kl=0.1" in error.problem
    rows = folder.read_metrics()
    reached = [row[name] for row in rows for name in ("objective/kl", "heldout/kl") if name in row]
    assert reached[-1] > 0.1, "the figure that stopped the run is in its metrics"
    assert all(kl <= 0.1 for kl in reached[:-1])


def test_ppo_without_a_limit_goes_on(configure):
    config = configure("ppo", "train.lr=0.05", "train.stop_kl=0", "train.iterations=3")
    assert ppo.train(config, resume=False).finished


@pytest.fixture
def losses(monkeypatch):
    """Sets the validation losses before and after training."""

    def set_to(*values):
        left = iter(values)
        monkeypatch.setattr(sft, "validate", lambda *_, **__: (next(left), 100))

    return set_to


@pytest.mark.slow
@pytest.mark.parametrize("after", [1.5, 2.0, 2.5])
def test_a_validation_loss_that_rose_is_a_warning(configure, losses, capsys, after):
    losses(2.0, after)
    folder = sft.train(configure("sft", "train.max_steps=1", "sample.prompts=0"), resume=False)
    said, rose = f"the validation loss is {after:.3f} nats per token, worse than 2.000 before training", after > 2.0
    assert [warning["kind"] for warning in folder.record().get("warnings", [])] == ["worse"] * rose
    assert (said in capsys.readouterr().out) == rose
    assert (said in (folder.path / "README.md").read_text()) == rose


def test_a_validation_loss_that_rose_can_be_a_failure(configure, losses):
    losses(2.0, 2.5)
    error, _ = stopped(configure("sft", "train.max_steps=1", "train.fail_if_worse=true", "sample.prompts=0"))
    assert "2.500 nats per token, worse than 2.000" in error.problem


def test_a_model_that_collapsed_to_a_uniform_guess_is_an_error(configure):
    """At such a rate the finite loss stays at ln V: nothing is infinite, and nothing is learned either."""
    error, _ = stopped(configure("sft", "train.lr=1e3", "sample.prompts=0"))
    assert "the run diverged at its end" in error.problem
    assert "no better than a uniform guess (5.704)" in error.problem  # ln 300


@pytest.mark.slow
@pytest.mark.parametrize(("phase", "override"), [("sft", "train.lr=1e3"), ("ppo", "train.lr=1e6")])
def test_a_command_that_diverges_ends_with_exit_code_2(configure, tmp_path, phase, override):
    config = configure(phase)
    file = Path(config.run.dir).with_suffix(".yaml")
    command = [sys.executable, "-m", phase, str(file), override]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "the run diverged" in done.stderr
    assert "Traceback" not in done.stderr
    folder = RunFolder.open(config.run.dir)
    assert folder.record()["status"] == "stopped"
    assert not folder.adapter.exists()
