"""sft, reward and contrastive training with two processes (gloo): one run folder, and the same training as with one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import reward_values, sft_values
from workbench.run.folder import RunFolder

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


def launch(phase: str, values: dict, folder: Path, number: int, port: int) -> RunFolder:
    """Start a phase as `accelerate launch` does; gives the finished run."""
    values = json.loads(json.dumps(values))
    values["run"]["dir"] = str(folder / f"with-{number}")
    path = folder / f"with-{number}.yaml"
    path.write_text(json.dumps(values), encoding="utf-8")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_machines", "1", "--mixed_precision", "no"]
    command += ["--multi_gpu"] if number > 1 else ["--cpu"]  # without a GPU, its launcher starts gloo processes
    command += ["--num_processes", str(number), "--main_process_port", str(port), "--dynamo_backend", "no"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [*command, "-m", phase, str(path)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return RunFolder.open(folder / f"with-{number}").require_finished()


def assert_trained_alike(one: RunFolder, two: RunFolder) -> None:
    assert (one.record()["processes"], two.record()["processes"]) == (1, 2)
    rows = list(zip(one.read_metrics(), two.read_metrics(), strict=True))
    assert len(rows) >= 4
    compared = 0
    for ours, theirs in rows:
        assert ours.keys() == theirs.keys()
        for name in ours:
            if name.endswith(("/loss", "/grad_norm", "/tokens", "/learning_rate")):
                assert theirs[name] == pytest.approx(ours[name], rel=2e-3, abs=2e-5), (ours["step"], name)
                compared += 1
    assert compared >= 8
    alone, shared = (load_file(run.adapter / "adapter_model.safetensors") for run in (one, two))
    assert max(float(weight.abs().max()) for name, weight in alone.items() if "lora_B" in name) > 5e-3, "it moved"
    for name, weight in alone.items():
        torch.testing.assert_close(shared[name], weight, rtol=1e-2, atol=3e-4)


def test_sft(tmp_path, tiny_base, demonstration_file):
    values = sft_values(tmp_path, tiny_base, demonstration_file)
    values["train"] |= {"max_steps": 4, "micro_batch_size": 2, "lr": 0.005}
    values["checkpoint"] = {"every": 2}
    one, two = (launch("sft", values, tmp_path, number, 29640 + number) for number in (1, 2))
    assert_trained_alike(one, two)
    assert {path.name for path in two.checkpoints.glob("step-*/rng_state*")} == {"rng_state_0.pth", "rng_state_1.pth"}


def test_reward(tmp_path, sft_run, preference_file):
    """With the ordinal loss, whose thresholds are trained outside the forward pass that DDP sees."""
    values = reward_values(tmp_path, sft_run, preference_file)
    values["train"] |= {"max_steps": 4, "micro_batch_size": 2, "lr": 0.005}
    values["loss"] = {"kind": "ordinal"}
    one, two = (launch("reward", values, tmp_path, number, 29650 + number) for number in (1, 2))
    assert_trained_alike(one, two)


@pytest.mark.parametrize("method", ["dpo", "slic"])
def test_contrastive(tmp_path, sft_run, preference_file, method):
    values = {
        "method": method,
        "run": {"dir": "", "seed": 0, "threads": 1},
        "model": {"start": str(sft_run)},
        "data": {"train": str(preference_file), "max_length": 128},
        "train": {"lr": 0.005, "max_steps": 4, "batch_size": 8, "micro_batch_size": 2},
        "tracking": {"wandb": "disabled", "log_every": 1},
    }
    one, two = (launch("ppo", values, tmp_path, number, 29660 + number) for number in (1, 2))
    assert_trained_alike(one, two)
