"""A whole small PPO run: its files, its schedule, and that a kill changes nothing."""

import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import ppo.train
from ppo.config import PpoConfig
from ppo.train import train
from ppo.update import learning_rate_factor
from tests.conftest import load_phase
from tests.ppo.conftest import ppo_values
from workbench.__main__ import main as workbench_verbs
from workbench.evaluate.inputs import EvaluationInputs
from workbench.evaluate.run_models import evaluate_policy_run
from workbench.model.heads import load_head
from workbench.model.open import open_runs
from workbench.run.checkpoints import checkpoint_steps
from workbench.run.config import load_config
from workbench.run.errors import WorkbenchError
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


def test_a_policy_that_is_trained_on_keeps_to_the_given_reference(finished, ppo_config, sft_run, prompt_file, capsys):
    further = (f"model.start={finished.path}", "train.iterations=2", "evaluation.every=0")
    own = train(ppo_config(*further, dir="own"), resume=False)
    kept = train(ppo_config(*further, f"model.reference={sft_run}", dir="kept"), resume=False)
    first = [run.read_metrics()[0]["heldout/kl"] for run in (own, kept)]
    assert first[0] == 0, "without one, the start run is the reference"
    assert first[1] > 0.01, "the start run has moved away from the supervised model"
    assert kept.record()["parents"]["reference"] == str(sft_run)
    inputs = EvaluationInputs(prompts=str(prompt_file))
    evaluated = [evaluate_policy_run(run.path, inputs).policy for run in (own, kept)]
    assert evaluated[1].kl.mean > evaluated[0].kl.mean > 0, "an evaluation has the KL to the same reference"
    capsys.readouterr()
    workbench_verbs(["roles", str(kept.path)])
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in ("reference", "start", "policy", "reward_1"))


def test_another_reference_at_a_resume_is_another_run(finished, ppo_config, sft_run):
    config = ppo_config("train.iterations=1", f"model.reference={sft_run}")
    train(config, resume=False)
    other = ppo_config("train.iterations=1", f"model.reference={finished.path}")
    with pytest.raises(WorkbenchError, match=r"model\.reference"):
        train(other, resume=True)


def test_a_missing_reference_is_one_error(ppo_config, tmp_path):
    with pytest.raises(WorkbenchError, match="nowhere"):
        train(ppo_config(f"model.reference={tmp_path / 'nowhere'}"), resume=False)


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


def test_the_policy_s_warm_up_starts_with_its_first_update(ppo_config):
    # Three iterations of the value model alone, then two of warm-up: 1/3, 2/3, 1,
    # but never above the line to 0, which is at .6 in iteration 4.
    factors = [learning_rate_factor(i, 10, 2, first=3) for i in range(7)]
    assert factors == pytest.approx([0, 0, 0, 1 / 3, 0.6, 0.5, 0.4])
    changes = ("train.iterations=4", "train.warmup_iterations=1", "train.value_only_iterations=2")
    folder = train(ppo_config(*changes, "train.lr=0.001", "train.value_lr=0.002"), resume=False)
    rows = [row for row in folder.read_metrics() if "objective/score" in row]
    assert [row["policy/learning_rate"] for row in rows] == pytest.approx([0, 0, 0.0005, 0.00025])
    assert [row["value/learning_rate"] for row in rows] == pytest.approx([0.001, 0.0015, 0.001, 0.0005])


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
            raise LookupError("a bolt from the blue")
        return original(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", fails)
        with pytest.raises(LookupError):
            train(config, resume=False)
    folder = RunFolder(Path(config.run.dir))
    assert folder.record()["status"] == "stopped"
    train(config, resume=True)
    assert_same_run(folder, finished)


KILLED = """
import os, signal, sys
import torch
import ppo.sampler, ppo.rollout, ppo.state
from ppo.__main__ import main

where, number = sys.argv[1], int(sys.argv[2])
calls = 0

def dying(original, after=None):
    def call(*arguments, **options):
        global calls
        calls += 1
        if calls == number:
            if after is not None:
                after(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)
    return call

save = torch.save
if where == "sampling":
    ppo.sampler.generate = dying(ppo.sampler.generate)
elif where == "reading":
    ppo.rollout.token_kl = dying(ppo.rollout.token_kl)
elif where == "update":
    torch.optim.AdamW.step = dying(torch.optim.AdamW.step)
else:
    torch.save = dying(torch.save, after=lambda content, path: save({"half": 1}, path))
main(sys.argv[3:])
"""
CALLS = {"sampling": (5, 9), "reading": (5, 9), "update": (20, 47), "saving": (2, 2)}
"""Where a run is killed, and in which call: from the first after the first checkpoint to the last."""


@pytest.mark.slow
@pytest.mark.parametrize("where", CALLS)
def test_killed_at_a_random_moment_and_resumed_is_bit_identical(ppo_config, tmp_path, finished, where):
    config = ppo_config()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    root, number = Path(__file__).parents[2], random.SystemRandom().randint(*CALLS[where])
    run = {"cwd": root, "env": environment, "capture_output": True, "text": True, "timeout": 300}
    command = [sys.executable, "-c", KILLED, where, str(number), str(tmp_path / "ppo.yaml")]
    done = subprocess.run(command, **run)
    assert done.returncode == -signal.SIGKILL, f"{where}, call {number}: {done.stderr[-2000:]}"
    folder = RunFolder(Path(config.run.dir))
    assert folder.record()["status"] == "started"
    assert checkpoint_steps(folder.checkpoints)[-1:] in ([2], [4]), f"{where}, call {number}"
    done = subprocess.run([sys.executable, "-m", "ppo", str(tmp_path / "ppo.yaml"), "--resume"], **run)
    assert done.returncode == 0, f"{where}, call {number}: {done.stderr[-2000:]}"
    assert_same_run(folder, finished)
    assert not list(folder.checkpoints.glob(".*")), "what the kill left half-written is gone"


@pytest.mark.slow
def test_every_option_at_once_survives_a_stop(ppo_config, demonstration_file, reward_run, kernels, monkeypatch):
    """Adaptive KL, demonstrations, two reward models and a head on the policy's trunk."""
    options = (
        kernels,
        "model.value=head",
        f"model.reward=[{reward_run},{reward_run}]",
        "reward.kl_target=0.5",
        "reward.std_coef=0.5",
        "reward.length_penalty=0.01",
        "train.ptx_coef=0.5",
        "train.value_only_iterations=1",
        "train.target_kl=1e-4",
        f"data.demonstrations={demonstration_file}",
        "rollout.responses_per_prompt=2",
        "reward.kl_in=loss",
        "reward.kl_estimator=k2",
        "train.entropy_coef=0.01",
    )
    whole = train(ppo_config(*options, dir="whole"), resume=False)
    config, original, calls = ppo_config(*options, dir="stopped"), torch.optim.AdamW.step, []

    def fails(self, *arguments, **more):
        calls.append(1)
        if len(calls) > 30:
            raise LookupError("a bolt from the blue")
        return original(self, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", fails)
        with pytest.raises(LookupError):
            train(config, resume=False)
    assert_same_run(train(config, resume=True), whole)
    record = whole.record()
    assert set(record["parents"]) == {"start", "reward_1", "reward_2"}
    last = [row for row in whole.read_metrics() if "objective/score" in row][-1]
    assert {"ptx/loss", "value/loss", "value/explained_variance"} <= last.keys()


def test_critic_free_runs_have_no_value_model(ppo_config):
    options = ("rollout.responses_per_prompt=4", "train.iterations=2", "checkpoint.every=1")
    for method in ("rloo", "grpo"):
        folder = train(ppo_config(f"train.advantage={method}", *options, dir=method), resume=False)
        assert not folder.head_path.exists()
        rows = folder.read_metrics()
        assert not any(name.startswith("value/") for row in rows for name in row)
        assert folder.adapter.is_dir()


def test_the_best_checkpoints_are_kept_with_a_plain_adapter(ppo_config, monkeypatch):
    measured = iter([0.0, 9.0, 1.0, 2.0, 3.0, 4.0, 0.5])
    original = ppo.train.evaluate

    def judged(*arguments, **options):
        metrics, rows = original(*arguments, **options)
        return metrics | {"heldout/score": next(measured), "heldout/kl": 0.0}, rows

    monkeypatch.setattr(ppo.train, "evaluate", judged)
    options = ("evaluation.every=1", "checkpoint.every=1", "checkpoint.keep_last=1", "checkpoint.keep_best=1")
    folder = train(ppo_config(*options), resume=False)
    # Iteration 1 was measured best; checkpoint 5 is the newest before the end.
    assert checkpoint_steps(folder.checkpoints) == [1, 5]
    kept = load_file(folder.checkpoints / "step-1/adapter/adapter_model.safetensors")
    assert kept.keys() == load_file(folder.adapter / "adapter_model.safetensors").keys()


def test_a_warning_is_given_once_and_kept(ppo_config, capsys):
    # Eight tokens are too few for an end: no response of the random base has one.
    folder = train(ppo_config(), resume=False)
    assert capsys.readouterr().out.count("of the responses end") == 1
    (warning,) = [w for w in folder.record()["warnings"] if w["kind"] == "eos"]
    assert warning["iteration"] == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rollout.importance_cap=2", "rollout.importance_cap: needs the probabilities"),
        ("train.advantage=rloo", "rollout.responses_per_prompt: is 1"),
        ("rollout.responses_per_prompt=3", "3 does not divide rollout.batch_size 8"),
        ("reward.kl_in=loss", "k1 has no gradient"),
        ("train.ptx_coef=0.1", "data.demonstrations: is missing"),
    ],
)
def test_options_that_do_not_go_together(ppo_config, override, message):
    with pytest.raises(WorkbenchError, match=message):
        train(ppo_config(override), resume=False)


def test_the_roles_of_a_run_are_listed(finished, capsys):
    assert workbench_verbs(["roles", str(finished.path)]) == 0
    table = capsys.readouterr().out
    assert re.search(r"^  base, shared +101,440 ", table, re.MULTILINE)
    for role, count in (("reference", "8,704"), ("reward_1", "8,769"), ("policy", "8,704")):
        assert re.search(rf"^  {role} +{count} ", table, re.MULTILINE), role


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
