"""A whole small PPO run: its files, its schedule, and that a kill changes nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ppo.config import PpoConfig
from ppo.train import learning_rate_factor, train
from tests.conftest import load_phase
from tests.ppo.conftest import ppo_values
from workbench.model.heads import load_head
from workbench.model.open import open_runs
from workbench.run.checkpoints import checkpoint_steps
from workbench.run.config import load_config
from workbench.run.folder import RunFolder


@pytest.fixture(scope="module")
def finished(tmp_path_factory, sft_run, reward_run, prompt_file):
    """A run of 6 iterations, never interrupted."""
    folder = tmp_path_factory.mktemp("finished")
    values = ppo_values(folder / "ppo", sft_run, reward_run, prompt_file)
    return train(load_phase(PpoConfig, folder / "ppo.yaml", values), resume=False)


def lasting(rows):
    """Metrics without what a clock measures."""
    return [{k: v for k, v in row.items() if k != "seconds" and not k.startswith("speed/")} for row in rows]


def test_files_of_a_finished_run(finished):
    record = finished.record()
    assert (record["status"], record["phase"], record["method"]) == ("finished", "ppo", "ppo")
    assert set(record["parents"]) == {"start", "reward_1"}
    assert checkpoint_steps(finished.checkpoints) == [2, 4]
    assert (finished.adapter / "adapter_model.safetensors").is_file()
    head, probe = load_head(finished.head_path)
    assert (head.weight.shape, probe) == (torch.Size([64]), None)
    assert "heldout/score" in (finished.path / "README.md").read_text()


def test_rows_of_metrics_and_samples(finished):
    rows = finished.read_metrics()
    trained = [row for row in rows if "objective/score" in row]
    held_out = [row for row in rows if "heldout/score" in row]
    assert [row["step"] for row in trained] == [0, 1, 2, 3, 4, 5]
    assert [row["step"] for row in held_out] == [0, 2, 4, 6]
    assert [row["objective/episodes"] for row in trained] == [8, 16, 24, 32, 40, 48]
    assert (trained[0]["objective/kl"], trained[0]["objective/kl_exact"], held_out[0]["heldout/kl"]) == (0, 0, 0)
    assert held_out[-1]["heldout/kl"] > 0
    samples = finished.read_samples()
    by_step = {step: [r["prompt_id"] for r in samples if r["step"] == step] for step in (0, 2, 4, 6)}
    assert len(by_step[0]) > 1
    assert len({tuple(ids) for ids in by_step.values()}) == 1, "the same held-out prompts each time"


def test_the_saved_policy_is_the_trained_one(finished, sft_run):
    before, after = (load_file(run / "adapter/adapter_model.safetensors") for run in (sft_run, finished.path))
    assert before.keys() == after.keys()
    assert all(tensor.dtype == torch.float32 for tensor in after.values())
    assert all(not torch.equal(before[name], after[name]) for name in before)
    roles = open_runs({"policy": finished.path})
    assert roles.names == ["policy"]


def test_a_finished_run_is_left_alone(finished):
    before = finished.metrics_path.read_bytes()
    assert train(_config_of(finished), resume=True).path == finished.path
    assert finished.metrics_path.read_bytes() == before


def test_evaluation_and_logging_as_configured(ppo_config):
    folder = train(ppo_config("evaluation.every=0", "tracking.log_every=4", "checkpoint.every=0"), resume=False)
    rows = folder.read_metrics()
    assert [row["step"] for row in rows if "heldout/score" in row] == [0, 6], "before and after"
    assert [row["step"] for row in rows if "objective/score" in row] == [0, 4, 5]
    assert checkpoint_steps(folder.checkpoints) == []


def test_learning_rates_rise_and_fall():
    # Ten iterations, three of warm-up: 1/4, 2/4, 3/4, then what is left of the way to 0.
    factors = [learning_rate_factor(i, 10, 3) for i in range(10)]
    assert factors == pytest.approx([0.25, 0.5, 0.75, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    assert learning_rate_factor(0, 10, 0) == 1


def test_the_logged_learning_rate_is_the_one_that_was_used(ppo_config, monkeypatch):
    used = []
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self, *_: used.append(self.param_groups[0]["lr"]))
    folder = train(ppo_config("train.iterations=2", "train.value_lr=0.001", "checkpoint.every=0"), resume=False)
    first, second = (row for row in folder.read_metrics() if "objective/score" in row)
    # Two epochs of two minibatches, policy and value in turn.
    assert used[:8] == [first["policy/learning_rate"], first["value/learning_rate"]] * 4
    assert used[8:] == [second["policy/learning_rate"], second["value/learning_rate"]] * 4
    assert used[0] == 0.003
    assert used[9] == 0.0005


def test_the_adaptive_coefficient_is_carried_over(ppo_config):
    folder = train(ppo_config("reward.kl_target=0.5", "reward.kl_horizon=40", "checkpoint.every=0"), resume=False)
    rows = [row for row in folder.read_metrics() if "objective/score" in row]
    # First KL 0: 0/.5 − 1, limited to −.2; 8 of 40 episodes: β·(1 − .2·.2).
    assert [row["objective/kl_coef"] for row in rows[:2]] == pytest.approx([0.05, 0.05 * 0.96])


def test_a_run_that_fails_is_closed_and_can_go_on(ppo_config, finished, monkeypatch):
    config = ppo_config()
    original = torch.optim.AdamW.step
    steps = []

    def fails(self, *arguments, **options):
        steps.append(1)
        if len(steps) > 20:
            raise FloatingPointError("a bolt from the blue")
        return original(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", fails)
        with pytest.raises(FloatingPointError):
            train(config, resume=False)
    folder = RunFolder(Path(config.run.dir))
    assert folder.record()["status"] == "stopped"
    train(config, resume=True)
    assert_same_run(folder, finished)


KILLED = """
import os, signal, sys
import torch
import ppo.train
from ppo.__main__ import main

where, save, collect, calls = sys.argv[1], torch.save, ppo.train.collect, []

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def save_and_die(content, path):
    calls.append(path)
    if where == "in a checkpoint" and len(calls) == 2:
        save({"half": 1}, path)
        die()
    save(content, path)

def collect_and_die(*arguments, **options):
    rollout = collect(*arguments, **options)
    if where == "in an iteration" and len(calls) == 1:
        die()
    return rollout

torch.save, ppo.train.collect = save_and_die, collect_and_die
main(sys.argv[2:])
"""


@pytest.mark.parametrize("where", ["in a checkpoint", "in an iteration"])
def test_killed_and_resumed_is_bit_identical(ppo_config, tmp_path, finished, where):
    config = ppo_config()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", KILLED, where, str(tmp_path / "ppo.yaml")]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    folder = RunFolder(Path(config.run.dir))
    assert folder.record()["status"] == "started"
    assert checkpoint_steps(folder.checkpoints) == [2]
    done = subprocess.run(
        [sys.executable, "-m", "ppo", str(tmp_path / "ppo.yaml"), "--resume"],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert_same_run(folder, finished)
    assert not list(folder.checkpoints.glob(".*")), "what the kill left half-written is gone"


def assert_same_run(folder, expected):
    """Weights, metrics and samples, bit for bit."""
    for file in ("adapter/adapter_model.safetensors", "head.safetensors"):
        ours, theirs = load_file(folder.path / file), load_file(expected.path / file)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours), file
    assert lasting(folder.read_metrics()) == lasting(expected.read_metrics())
    assert folder.read_samples() == expected.read_samples()


def _config_of(folder):
    return load_config(PpoConfig, folder.config_path)[0]
