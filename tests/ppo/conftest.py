"""PPO on the small random base: its configuration, its roles, a rollout."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ppo.config import PpoConfig, PromptSection
from ppo.rollout import PromptSet, Rollout, score_rows
from ppo.start import load_prompts, open_roles
from tests.conftest import load_phase
from workbench.model.processes import Processes
from workbench.model.roles import Roles
from workbench.model.rows import Rows
from workbench.run.folder import RunFolder


def ppo_values(run: Path, start: Path, reward: Path, prompts: Path) -> dict[str, Any]:
    """Configuration of a small PPO run: 6 iterations of 8 responses of at most 8 tokens."""
    return {
        "method": "ppo",
        "run": {"dir": str(run), "seed": 0, "threads": 1},
        "model": {"start": str(start), "reward": str(reward), "force": True},  # too few pairs for a passport
        "data": {"train": str(prompts), "heldout_share": 0.25, "max_prompt_length": 64},
        "rollout": {"batch_size": 8, "micro_batch_size": 8, "max_new_tokens": 8},
        "train": {
            "iterations": 6,
            "ppo_epochs": 2,
            "minibatch_size": 4,
            "micro_batch_size": 4,
            "lr": 0.003,
            "value_lr": 0.003,
        },
        "evaluation": {"every": 2, "prompts": 4},
        "checkpoint": {"every": 2},
        "tracking": {"wandb": "disabled", "log_every": 1},
    }


Configure = Callable[..., PpoConfig]
"""(overrides …, dir=folder) → PpoConfig."""


@pytest.fixture
def ppo_config(tmp_path: Path, sft_run: Path, reward_run: Path, prompt_file: Path) -> Configure:
    """Reads a small PPO configuration, with `a.b=value` overrides."""

    def configure(*overrides: str, dir: str = "ppo") -> PpoConfig:
        values = ppo_values(tmp_path / dir, sft_run, reward_run, prompt_file)
        config: PpoConfig = load_phase(PpoConfig, tmp_path / f"{dir}.yaml", values, *overrides)
        return config

    return configure


@pytest.fixture
def open_again(sft_run: Path, reward_run: Path) -> Callable[..., Roles]:
    """Opens policy, reference, value and reward as PPO does, the same each time."""

    def opened(value: str = "adapter", rewards: int = 1) -> Roles:
        return open_roles(
            RunFolder(sft_run),
            [RunFolder(reward_run)] * rewards,
            base=None,
            value=value,
            activation_checkpointing=False,
        )

    return opened


@pytest.fixture
def roles(open_again: Callable[..., Roles]) -> Roles:
    """All four roles, of this test alone."""
    return open_again()


@pytest.fixture
def prompts(roles: Roles, prompt_file: Path) -> PromptSet:
    """Training prompts, 8 to 16 of them."""
    section = PromptSection(train="", heldout_share=0.25, max_prompt_length=64)
    train, _ = load_prompts(roles.tokenizer, prompt_file, None, section, seed=0)
    return train


LENGTHS = (1, 3, 5, 12, 2, 8, 4, 12)
"""Tokens of the fixture's responses; those of odd rows end with EOS."""


@pytest.fixture
def rollout(roles: Roles, prompts: PromptSet) -> Rollout:
    """Eight responses of different lengths, read by the fresh roles."""
    return read_responses(roles, prompts, random_responses(roles))


def config_of(**sections: dict[str, Any]) -> PpoConfig:
    """A configuration of these sections, without files: for functions that take their knobs from it."""
    names = {"run": {"dir": "runs/x"}, "model": {"start": "a", "reward": "b"}, "data": {"train": "c"}}
    return PpoConfig.model_validate(names | sections)


def random_responses(roles: Roles) -> list[list[int]]:
    """Token ids of `LENGTHS`."""
    generator = torch.Generator().manual_seed(4)
    words = [torch.randint(3, 250, (length,), generator=generator).tolist() for length in LENGTHS]
    end = roles.tokenizer.eos_token_id
    return [[*ids[:-1], end] if row % 2 else ids for row, ids in enumerate(words)]


def read_responses(roles: Roles, prompts: PromptSet, responses: list[list[int]], size: int = 8) -> Rollout:
    """A rollout of given responses to the first prompts, scored `size` rows at a time."""
    answered = prompts.take(list(range(len(responses))))
    rows = Rows.of(answered.ids, responses, roles.tokenizer.pad_token_id, roles.device)
    section = config_of(rollout={"micro_batch_size": size}).rollout
    return score_rows(roles, answered, rows, section, processes=Processes())
