"""On-policy pairs: each epoch but the first trains on answers of the policy of that moment."""

import json

import pytest
import torch
from safetensors.torch import load_file

from ppo.contrastive.train import train
from ppo.ladder.config import PairsConfig
from tests.conftest import load_phase
from tests.ppo.contrastive.conftest import interrupted_and_resumed
from workbench.data.readers import read_preferences
from workbench.run.errors import WorkbenchError


@pytest.fixture
def refreshing(configure, sft_run, prompt_file, tmp_path):
    """A run of three epochs of two steps, whose ladder has the bare base below the policy."""
    ladder = {"start": str(sft_run), "prompts": str(prompt_file), "out": "unused", "max_new_tokens": 40}
    ladder |= {"rungs": [{"name": "base", "scale": 0.0}, {"name": "policy", "temperature": 0.7}], "batch_size": 16}
    load_phase(PairsConfig, tmp_path / "pairs.yaml", {"ladder": ladder, "select": {"length_ratio": 20.0}})
    words = ("train.max_steps=0", "train.epochs=3", f"data.refresh={tmp_path / 'pairs.yaml'}", "checkpoint.every=1")

    def configured(*overrides):
        return configure("dpo", *words, *overrides)

    return configured


def adapter(folder):
    return load_file(folder.path / "adapter/adapter_model.safetensors")


def test_later_epochs_train_on_answers_of_the_policy(refreshing):
    folder = train(refreshing(), resume=False)
    assert [path.name for path in sorted((folder.path / "refresh").iterdir())] == ["epoch-1", "epoch-2"]
    answers = []
    for epoch in (1, 2):
        pairs = read_preferences(folder.path / f"refresh/epoch-{epoch}/preferences.jsonl")
        assert {(pair.chosen_run, pair.rejected_run) for pair in pairs} == {("policy", "base")}
        answers.append({pair.chosen_text for pair in pairs})
    assert answers[0] != answers[1]
    held_out = {sample["group"] for sample in map(json.loads, open_lines(folder))} & {f"g{n}" for n in range(16, 24)}
    assert not held_out
    once = train(refreshing("data.refresh=null", f"run.dir={folder.path}-once"), resume=False)
    losses = [
        [row["contrastive/loss"] for row in run.read_metrics() if "contrastive/loss" in row] for run in (folder, once)
    ]
    assert losses[0][:2] == losses[1][:2], "the first epoch is the same"
    assert losses[0][2:] != losses[1][2:]


def open_lines(folder):
    return (folder.path / "refresh/epoch-1/preferences.jsonl").read_text().splitlines()


@pytest.mark.slow
def test_a_run_killed_in_a_refreshed_epoch_resumes_bit_identically(refreshing, kernels, monkeypatch):
    """It dies in its fourth step, within the second epoch; its pairs are not sampled again."""
    whole = train(refreshing(kernels), resume=False)
    cut = interrupted_and_resumed(refreshing(kernels, f"run.dir={whole.path}-cut"), monkeypatch)
    assert all(torch.equal(weights, adapter(whole)[name]) for name, weights in adapter(cut).items())


@pytest.mark.parametrize(
    "override", ["train.epochs=1", "train.max_steps=4", "curriculum.schedule=linear", "method=kto"]
)
def test_a_run_without_a_later_epoch_of_its_own_is_refused(refreshing, override):
    with pytest.raises(WorkbenchError, match=r"data\.refresh"):
        train(refreshing(override), resume=False)
