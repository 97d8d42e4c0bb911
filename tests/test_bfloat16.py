"""The path a large base takes, on the tiny one: bfloat16, NF4, transformers' own forward, activation checkpointing.

In bfloat16 the dense forward of a CPU stands aside, so every pass runs through transformers, peft and bitsandbytes, and
every self-check of every phase meets the rounding of a GPU run.
"""

import json

import pytest
import torch
from safetensors.torch import load_file

from ppo.config import PpoConfig
from ppo.train import train as train_ppo
from reward.config import RewardConfig
from reward.train import train as train_reward
from sft.config import SftConfig
from sft.train import train as train_sft
from tests.conftest import load_phase, reward_values, sft_values
from tests.ppo.conftest import ppo_values
from tests.ppo.test_checks import edited_copy
from workbench.model.open import open_runs
from workbench.run.errors import WorkbenchError

WIDE = ("model.dtype=bfloat16", "model.activation_checkpointing=true")


@pytest.fixture(scope="module")
def start(tmp_path_factory, tiny_base, demonstration_file):
    folder = tmp_path_factory.mktemp("bfloat16")
    values = sft_values(folder / "sft", tiny_base, demonstration_file)
    return train_sft(load_phase(SftConfig, folder / "sft.yaml", values, *WIDE), resume=False).path


@pytest.fixture(scope="module")
def compared():
    """(trained, loaded) scores of the probe rows, as the reward run below compared them."""
    return []


@pytest.fixture(scope="module")
def reward(tmp_path_factory, start, preference_file, compared):
    folder = tmp_path_factory.mktemp("bfloat16")
    values = reward_values(folder / "reward", start, preference_file)
    overrides = (
        "model.activation_checkpointing=true",
        "passport.at_end=true",
        "passport.answers=8",
        "passport.samples=2",
    )
    config = load_phase(RewardConfig, folder / "reward.yaml", values, *overrides)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reward.train.check_same_scores", lambda trained, loaded, **_: compared.append((trained, loaded)))
        return train_reward(config, resume=False).path


def test_the_pass_is_the_modules_in_bfloat16(start):
    roles = open_runs({"policy": start})
    assert roles.dtype == torch.bfloat16
    assert roles.cpu_kernels is None


@pytest.mark.slow
def test_a_reward_run_ends_and_its_passport_finds_it_whole(reward):
    checks = {check["name"]: check for check in json.loads((reward / "passport.json").read_text())["checks"]}
    for name in ("padding", "batch", "position", "reload", "head"):
        assert checks[name]["outcome"] == "pass", checks[name]
    assert checks["reload"]["value"] == 0  # the same machine, the same shape


def test_the_trained_model_and_the_saved_one_score_exactly_alike(reward, compared):
    """In the trainer's autocast LoRA would run in bfloat16, and the scores of a sound run would differ."""
    ((trained, loaded),) = compared
    assert torch.equal(trained, loaded)


def test_adapter_and_head_are_float32_and_not_bfloat16_numbers(reward):
    for file in ("head.safetensors", "adapter/adapter_model.safetensors"):
        for name, tensor in load_file(reward / file).items():
            if "weight" in name:
                assert tensor.dtype == torch.float32
                assert not torch.equal(tensor, tensor.bfloat16().float()), name


def new_head(tensors):
    tensors["weight"].normal_(std=0.125, generator=torch.Generator().manual_seed(0))


def moved_adapter(tensors):
    for name, tensor in tensors.items():
        if "lora_B" in name:
            tensor.add_(0.05)


@pytest.mark.parametrize(
    ("file", "change"),
    [("head.safetensors", new_head), ("adapter/adapter_model.safetensors", moved_adapter)],
)
def test_another_head_or_adapter_is_above_the_rounding(tmp_path, reward, file, change):
    other = edited_copy(reward, tmp_path / "reward", file, change)
    with pytest.raises(WorkbenchError, match="scores its probe batch differently"):
        open_runs({"reward": other})


def test_ppo_passes_its_checks(tmp_path, start, reward, prompt_file):
    values = ppo_values(tmp_path / "ppo", start, reward, prompt_file)
    overrides = ("model.activation_checkpointing=true", "train.iterations=2")
    folder = train_ppo(load_phase(PpoConfig, tmp_path / "ppo.yaml", values, *overrides), resume=False)
    first = next(row for row in folder.read_metrics() if "objective/kl" in row)
    assert first["objective/kl"] == pytest.approx(0, abs=1e-4)
    assert first["policy/ratio"] == pytest.approx(1, abs=1e-2)
    assert first["policy/rollout_gap"] < 0.04
