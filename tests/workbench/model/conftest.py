"""The random base as a spec, its tokenizer, and runs opened as roles of it."""

from pathlib import Path

import pytest
import torch

from workbench.model.base import BaseSpec, load_tokenizer
from workbench.model.masks import pad_rows
from workbench.model.open import open_runs
from workbench.model.roles import Roles


@pytest.fixture(scope="session")
def spec(tiny_base: Path) -> BaseSpec:
    """NF4, in the dtype of this machine's device."""
    return BaseSpec(str(tiny_base), None, "nf4", "auto").identified()


@pytest.fixture(scope="session")
def tokenizer(tiny_base: Path):
    """The base's tokenizer, made ready."""
    return load_tokenizer(str(tiny_base))


@pytest.fixture
def roles(sft_run: Path, reward_run: Path) -> Roles:
    """A fresh base with the roles reference, reward (with its head) and policy, a copy of the reference."""
    roles = open_runs({"reference": sft_run, "reward": reward_run})
    roles.copy("reference", "policy")
    return roles


@pytest.fixture(scope="session")
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Three right-padded rows of token ids: ids (3, T), mask (3, T)."""
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(3, 250, (n,), generator=generator).tolist() for n in (5, 9, 7)]
    return pad_rows(rows, 0)
