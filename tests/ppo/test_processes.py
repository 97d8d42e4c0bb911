"""Two processes (gloo) train as one does with the same global batch: rollouts, losses, gradients and weights."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from workbench.run.folder import RunFolder

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def launch(config: Path, number: int, port: int) -> subprocess.CompletedProcess[str]:
    """Start a run as `accelerate launch` does."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_machines", "1"]
    command += ["--multi_gpu"] if number > 1 else ["--cpu"]  # without a GPU, its launcher starts gloo processes
    command += ["--num_processes", str(number), "--main_process_port", str(port), "--mixed_precision", "no"]
    command += ["--dynamo_backend", "no"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [*command, "-m", "ppo", str(config)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400
    )


@pytest.fixture
def run_with(ppo_config, tmp_path):
    """Runs three iterations with so many processes; gives the finished folder."""

    def run(number: int, *overrides: str) -> RunFolder:
        name = f"with-{number}"
        config = ppo_config(dir=name)
        values = config.model_dump(mode="json")
        values["rollout"] |= {"micro_batch_size": 4}
        values["train"] |= {"micro_batch_size": 2, "iterations": 3, "lr": 0.001, "value_lr": 0.001}
        for override in overrides:
            key, _, value = override.partition("=")
            section, _, leaf = key.partition(".")
            values[section][leaf] = json.loads(value)
        path = tmp_path / f"{name}.yaml"
        path.write_text(json.dumps(values))
        done = launch(path, number, 29610 + number)
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stderr.count("iteration/s") <= 12, "one process alone shows its progress"
        return RunFolder.open(config.run.dir).require_finished()

    return run


RLOO = (
    'train.advantage="rloo"',
    "rollout.responses_per_prompt=2",
    "reward.missing_eos_score=null",
    "train.target_kl=1e-5",
)


@pytest.mark.parametrize("overrides", [(), RLOO], ids=["gae", "rloo"])
def test_two_processes_train_as_one(run_with, overrides):
    one, two = run_with(1, *overrides), run_with(2, *overrides)
    assert (one.record()["processes"], two.record()["processes"]) == (1, 2)
    assert two.read_samples() == one.read_samples(), "the same responses, sampled by whichever process"
    rows = list(zip(one.read_metrics(), two.read_metrics(), strict=True))
    assert len(rows) >= 5
    for ours, theirs in rows:
        assert ours.keys() == theirs.keys()
        for name in ours:
            if name != "seconds" and not name.startswith("speed/"):
                assert theirs[name] == pytest.approx(ours[name], rel=2e-3, abs=2e-5), name
    start = RunFolder.open(one.record()["parents"]["start"])
    before, alone, shared = (load_file(run.adapter / "adapter_model.safetensors") for run in (start, one, two))
    for name, weight in alone.items():
        torch.testing.assert_close(shared[name], weight, rtol=1e-3, atol=5e-5)
    moved = max(float((alone[name] - before[name]).abs().max()) for name in alone)
    assert moved > 1e-3, "what is compared has moved by more than the tolerance"


def test_an_error_in_one_process_ends_all(ppo_config, tmp_path):
    config = ppo_config(dir="occupied")
    Path(config.run.dir).mkdir()
    (Path(config.run.dir) / "something.txt").write_text("here already")
    path = tmp_path / "occupied-2.yaml"
    path.write_text(json.dumps(config.model_dump(mode="json")))
    done = launch(path, 2, 29622)
    assert done.returncode != 0
    assert "something" in done.stderr or "not empty" in done.stderr or "already" in done.stderr
    assert (Path(config.run.dir) / "something.txt").is_file()
