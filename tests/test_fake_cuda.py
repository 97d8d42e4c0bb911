"""Every phase on a GPU that is not there: no operator mixes devices. And the check finds a planted fault."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import workbench.model.rows
from ppo.config import ContrastiveConfig, PpoConfig
from ppo.contrastive.train import train as train_contrastive
from ppo.train import train as train_ppo
from reward.config import RewardConfig
from reward.train import train as train_reward
from reward.verbs.score import score_file
from sft.config import SftConfig
from sft.train import train as train_sft
from tests.conftest import load_phase, reward_values, sft_values
from tests.fake_cuda import CUDA, DeviceError, fake_cuda, on_gpu
from tests.ppo.conftest import ppo_values
from workbench.data.readers import read_prompts
from workbench.evaluate.inputs import EvaluationInputs
from workbench.evaluate.policy import Sampling
from workbench.evaluate.run_models import evaluate_policy_run, evaluate_reward_run
from workbench.model.generate import sample
from workbench.model.open import open_runs

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a real one")

STEPS = ("train.max_steps=2", "model.activation_checkpointing=true")


def started(config: Any, values: dict[str, Any], *overrides: str) -> Path:
    """A phase with these values, on the GPU that is not there."""
    run = Path(values["run"]["dir"])
    train = {SftConfig: train_sft, RewardConfig: train_reward, PpoConfig: train_ppo}.get(config, train_contrastive)
    loaded = load_phase(config, run.with_suffix(".yaml"), values, *overrides)
    with fake_cuda():
        return train(loaded, resume=False).path


@pytest.fixture(scope="module")
def start(tmp_path_factory, tiny_base, demonstration_file):
    values = sft_values(tmp_path_factory.mktemp("gpu") / "sft", tiny_base, demonstration_file)
    return started(SftConfig, values, *STEPS, "sample.max_new_tokens=2")


@pytest.fixture(scope="module")
def reward(tmp_path_factory, start, preference_file):
    values = reward_values(tmp_path_factory.mktemp("gpu") / "reward", start, preference_file)
    small = (
        "normalise.answers=16",
        "normalise.max_new_tokens=2",
        "passport.at_end=true",
        "passport.answers=2",
        "passport.samples=2",
    )
    return started(RewardConfig, values, *STEPS, *small)


def test_sft(start):
    assert json.loads((start / "run.json").read_text())["status"] == "finished"


@pytest.mark.slow
def test_reward_with_its_passport(reward):
    assert json.loads((reward / "passport.json").read_text())["checks"]


@pytest.mark.parametrize(
    "overrides",
    [(), ("train.advantage=rloo", "rollout.responses_per_prompt=2")],
    ids=["gae", "rloo"],
)
def test_ppo(tmp_path, start, reward, prompt_file, overrides):
    values = ppo_values(tmp_path / "ppo", start, reward, prompt_file)
    once = ("train.iterations=1", "train.ppo_epochs=1", "rollout.max_new_tokens=3", "evaluation.prompts=2")
    run = started(PpoConfig, values, *once, "model.activation_checkpointing=true", *overrides)
    assert (run / "adapter/adapter_model.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dpo", "slic"])
def test_contrastive(tmp_path, start, preference_file, method):
    values = {
        "method": method,
        "run": {"dir": str(tmp_path / method), "seed": 0, "threads": 1},
        "model": {"start": str(start)},
        "data": {"train": str(preference_file), "max_length": 128},
        "train": {"batch_size": 4, "micro_batch_size": 2},
        "tracking": {"wandb": "disabled", "log_every": 1},
    }
    run = started(ContrastiveConfig, values, *STEPS)
    assert (run / "adapter/adapter_model.safetensors").is_file()


def test_evaluation_scoring_and_sampling(tmp_path, start, reward, prompt_file, preference_file):
    inputs = EvaluationInputs(prompts=str(prompt_file), reward=str(reward))
    sampling = Sampling(max_new_tokens=2, batch_size=8)
    with fake_cuda():
        policy = evaluate_policy_run(start, inputs, sampling=sampling)
        judged = evaluate_reward_run(reward)
        scored = score_file(reward, preference_file, tmp_path / "scores.jsonl", quiet=True)
        roles = open_runs({"policy": start})
        assert roles.device == CUDA
        options = {"responses_per_prompt": 2, "max_new_tokens": 2, "batch_size": 4, "seed": 0}
        answers = list(sample(roles, "policy", read_prompts(prompt_file)[:4], temperatures=[0.7, 1.3], **options))
    assert policy.policy is not None
    assert judged.reward_model is not None
    assert scored.rows == 24
    assert len(answers) == 4


def test_what_cuda_would_refuse():
    with fake_cuda():
        there, here = torch.zeros(3, device="cuda"), torch.zeros(3)
        assert there.device == CUDA
        assert (there + 1).is_cuda
        assert (there + torch.tensor(1.0)).is_cuda  # a number of either device
        assert on_gpu(torch.nn.Linear(3, 1).to("cuda").weight)
        refused = (
            lambda: there + here,
            lambda: here[there.long()],
            lambda: there.numpy(),
            lambda: np.asarray(there),
            lambda: torch.randperm(3, generator=torch.Generator(), device="cuda"),
            lambda: torch.multinomial(there + 1, 1, generator=torch.Generator()),
            lambda: torch.cat([there, here]),
        )
        for fault in refused:
            with pytest.raises(DeviceError):
                fault()
        assert (there.cpu() + here).device.type == "cpu"
        product = torch.mm(there.view(1, 3).bfloat16(), there.view(3, 1).bfloat16(), out_dtype=torch.float32)
        assert product.dtype == torch.float32
    assert (torch.zeros(3) + 1).device.type == "cpu"


def test_a_planted_fault_is_found(tmp_path, start, reward, prompt_file, monkeypatch):
    """Responses that were never moved to the GPU."""
    real = workbench.model.rows.Rows.of
    elsewhere = lambda *arguments: real(*arguments[:-1], torch.device("cpu"))  # noqa: E731
    monkeypatch.setattr(workbench.model.rows.Rows, "of", elsewhere)
    values = ppo_values(tmp_path / "ppo", start, reward, prompt_file)
    with pytest.raises(DeviceError):
        started(PpoConfig, values, "train.iterations=1", "rollout.max_new_tokens=2")
