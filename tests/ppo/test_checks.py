"""Each start-up self-check fires, through the whole run, when what it guards is broken."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

import ppo.start
from ppo.train import train
from ppo.update import Update
from workbench.run.errors import WorkbenchError


def edited_copy(run, target, file, change):
    """A copy of a finished run whose tensors of one file `change` edits."""
    shutil.copytree(run, target)
    tensors = load_file(target / file)
    change(tensors)
    save_file(tensors, target / file)
    return target


@pytest.mark.slow
def test_a_policy_that_is_not_the_reference(ppo_config, kernels, monkeypatch):
    original = ppo.start.open_roles

    def perturbed(*arguments, **options):
        roles = original(*arguments, **options)
        with torch.no_grad():
            roles.parameters("policy")[1].add_(1e-3)
        return roles

    monkeypatch.setattr(ppo.start, "open_roles", perturbed)
    with pytest.raises(WorkbenchError, match=r"KL\(policy, reference\)"):
        train(ppo_config(kernels), resume=False)


def test_a_reference_that_is_the_bare_base(ppo_config, sft_run, kernels, tmp_path):
    def empty(tensors):
        for name, tensor in tensors.items():
            if "lora_B" in name:
                tensor.zero_()

    start = edited_copy(sft_run, tmp_path / "sft", "adapter/adapter_model.safetensors", empty)
    with pytest.raises(WorkbenchError, match="reference ≠ base"):
        train(ppo_config(f"model.start={start}", kernels), resume=False)


@pytest.mark.parametrize(
    ("file", "part"),
    [
        ("head.safetensors", "probe_scores"),
        ("head.safetensors", "weight"),
        ("head.safetensors", "offset"),
        ("adapter/adapter_model.safetensors", "lora_B"),
    ],
)
def test_a_reward_model_that_is_not_the_trained_one(ppo_config, reward_run, kernels, tmp_path, file, part):
    def change(tensors):
        for name, tensor in tensors.items():
            if part in name:
                tensor.add_(0.05)

    reward = edited_copy(reward_run, tmp_path / "reward", file, change)
    with pytest.raises(WorkbenchError, match="scores its probe batch differently"):
        train(ppo_config(f"model.reward={reward}", kernels), resume=False)


@pytest.mark.parametrize("role", ["reference", "reward_1"])
def test_a_frozen_adapter_that_moves(ppo_config, monkeypatch, role):
    original = Update.run

    def careless(self, **options):
        with torch.no_grad():
            self.roles.parameters(role)[0].add_(1e-6)
        return original(self, **options)

    monkeypatch.setattr(Update, "run", careless)
    with pytest.raises(WorkbenchError, match=f"changed the frozen adapter '{role}'"):
        train(ppo_config(), resume=False)


def test_an_update_at_another_temperature(ppo_config, kernels, monkeypatch):
    original = Update.run

    def colder(self, **options):
        rollout = self.config.rollout.model_copy(update={"temperature": 0.7})
        return original(replace(self, config=self.config.model_copy(update={"rollout": rollout})), **options)

    monkeypatch.setattr(Update, "run", colder)
    with pytest.raises(WorkbenchError, match="ratio"):
        train(ppo_config(kernels), resume=False)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.minibatch_size=3", "train.minibatch_size: 3 does not divide rollout.batch_size 8"),
        ("train.micro_batch_size=3", "train.micro_batch_size: 3 does not divide train.minibatch_size 4"),
    ],
)
def test_sizes_that_do_not_divide(ppo_config, override, message):
    with pytest.raises(WorkbenchError, match=message):
        train(ppo_config(override), resume=False)


def test_a_run_of_another_phase(ppo_config, sft_run, reward_run):
    with pytest.raises(WorkbenchError, match="is a sft run"):
        train(ppo_config(f"model.reward={sft_run}"), resume=False)
    with pytest.raises(WorkbenchError, match="is a reward run"):
        train(ppo_config(f"model.start={reward_run}"), resume=False)


def test_an_unfinished_start(ppo_config, sft_run, tmp_path):
    start = shutil.copytree(sft_run, tmp_path / "sft")
    record = json.loads((start / "run.json").read_text())
    (start / "run.json").write_text(json.dumps(record | {"status": "started"}))
    with pytest.raises(WorkbenchError, match="is not finished"):
        train(ppo_config(f"model.start={start}"), resume=False)


def with_dropout(run, target, share=0.3):
    """A copy of a finished run that was configured with `lora.dropout`."""
    shutil.copytree(run, target)
    path = target / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"lora_dropout": share}))
    return path


def test_runs_that_were_trained_with_dropout(ppo_config, sft_run, reward_run, tmp_path):
    files = [with_dropout(sft_run, tmp_path / "sft"), with_dropout(reward_run, tmp_path / "reward")]
    before = [file.read_bytes() for file in files]
    starts = (f"model.start={tmp_path / 'sft'}", f"model.reward={tmp_path / 'reward'}", "train.iterations=1")
    dropped = train(ppo_config(*starts, dir="dropped"), resume=False)
    plain = train(ppo_config("train.iterations=1", dir="plain"), resume=False)
    first, second = (load_file(run.adapter / "adapter_model.safetensors") for run in (dropped, plain))
    assert all(torch.equal(first[name], second[name]) for name in second)  # as if there were no dropout
    assert [file.read_bytes() for file in files] == before
    assert json.loads((dropped.adapter / "adapter_config.json").read_text())["lora_dropout"] == 0.0


def test_a_self_check_that_fires_names_causes_and_remedy(ppo_config, monkeypatch):
    original = Update.run

    def moved(self, **options):
        with torch.no_grad():
            self.roles.parameters("policy")[1].add_(0.05)
        return original(self, **options)

    monkeypatch.setattr(Update, "run", moved)
    with pytest.raises(WorkbenchError, match="ratio = 1") as caught:
        train(ppo_config(), resume=False)
    assert "dropout" in caught.value.remedy
