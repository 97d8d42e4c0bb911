"""SIGTERM, which clusters send before they kill: the run is saved and stopped, and goes on bit for bit."""

import os
import signal

import pytest
import torch
from safetensors.torch import load_file

import ppo.train as ppo
import sft.train as sft
from ppo.config import PpoConfig
from sft.config import SftConfig
from tests.conftest import load_phase, sft_values
from tests.ppo.conftest import ppo_values
from workbench.model.training import RunCallback
from workbench.run.checkpoints import checkpoint_steps
from workbench.run.errors import Terminated


@pytest.fixture
def configure(tmp_path, tiny_base, sft_run, reward_run, demonstration_file, prompt_file):
    """Configuration of a phase in a folder of its own, saving no checkpoint by itself."""

    def configured(phase, name):
        file, run = tmp_path / f"{name}.yaml", tmp_path / name
        if phase is sft:
            return load_phase(SftConfig, file, sft_values(run, tiny_base, demonstration_file), "sample.prompts=0")
        values = ppo_values(run, sft_run, reward_run, prompt_file)
        return load_phase(PpoConfig, file, values, "checkpoint.every=0", "train.iterations=4")

    return configured


def terminate(monkeypatch, owner, name, call):
    """SIGTERM at the start of a function's n-th call."""
    function, calls = getattr(owner, name), []

    def wrapped(*arguments, **options):
        calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGTERM)
        return function(*arguments, **options)

    monkeypatch.setattr(owner, name, wrapped)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("phase", "owner", "name", "saved"),
    [(sft, RunCallback, "on_pre_optimizer_step", 3), (ppo, ppo, "collect", 2)],
    ids=["sft", "ppo"],
)
def test_a_terminated_run_is_saved_and_goes_on_bit_for_bit(configure, monkeypatch, phase, owner, name, saved):
    before = signal.getsignal(signal.SIGTERM)
    whole = phase.train(configure(phase, "whole"), resume=False)
    with monkeypatch.context() as patch:
        terminate(patch, owner, name, 3)
        with pytest.raises(Terminated):
            phase.train(configure(phase, "stopped"), resume=False)
    assert signal.getsignal(signal.SIGTERM) == before
    folder = type(whole)(whole.path.parent / "stopped")
    assert folder.record()["status"] == "stopped"
    assert checkpoint_steps(folder.checkpoints) == [saved]
    again = phase.train(configure(phase, "stopped"), resume=True)
    assert again.finished
    ours, theirs = (load_file(run.adapter / "adapter_model.safetensors") for run in (whole, again))
    assert ours.keys() == theirs.keys()
    for weight in ours:
        assert torch.equal(ours[weight], theirs[weight]), weight
    counted = ("step", "sft/tokens", "objective/episodes")
    first, second = ([{key: row.get(key) for key in counted} for row in run.read_metrics()] for run in (whole, again))
    assert first == second, "counters go on"
    tokens = [row["sft/tokens"] for row in first if row["sft/tokens"] is not None]
    assert tokens == sorted(set(tokens))
    assert len(tokens) == (8 if phase is sft else 0)
