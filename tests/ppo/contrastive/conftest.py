"""Contrastive runs on the small random base."""

import pytest

from ppo.config import ContrastiveConfig
from ppo.contrastive.train import train
from tests.conftest import load_phase
from workbench.model.training import RunCallback


@pytest.fixture
def configure(tmp_path, sft_run, preference_file):
    """Reads a small contrastive configuration: method, then `a.b=value` overrides."""

    def configured(method, *overrides):
        values = {
            "method": method,
            "run": {"dir": str(tmp_path / method), "seed": 0, "threads": 1},
            "model": {"start": str(sft_run)},
            "data": {"train": str(preference_file), "max_length": 128},
            "loss": {"beta": 0.3, "sft_coef": float(method == "sft")},
            "train": {"lr": 0.005, "max_steps": 6, "epochs": 6.0, "batch_size": 8, "micro_batch_size": 8},
            "tracking": {"wandb": "disabled", "log_every": 1},
        }
        return load_phase(ContrastiveConfig, tmp_path / f"{method}.yaml", values, *overrides)

    return configured


def interrupted_and_resumed(config, monkeypatch):
    """The run after an interruption in its fourth step."""

    def dies(self, args, state, control, **_):
        if state.global_step == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunCallback, "on_step_end", dies)
        with pytest.raises(KeyboardInterrupt):
            train(config, resume=False)
    return train(config, resume=True)
