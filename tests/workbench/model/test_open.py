"""Runs opened as roles: they belong together, and a reward model proves that it loaded right."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from workbench.model.base import BaseSpec
from workbench.model.heads import ScalarHead, load_head
from workbench.model.open import base_of, check_probe, new_value_head, open_runs
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder


def copied(run, tmp_path, **record):
    """A run that a test may change."""
    folder = RunFolder(shutil.copytree(run, tmp_path / run.name))
    folder.update_record(**record)
    return folder


def changed_base(tiny_base, tmp_path):
    folder = shutil.copytree(tiny_base, tmp_path / "other-base")
    weights = load_file(folder / "model.safetensors")
    weights = {name: tensor + 0.01 for name, tensor in weights.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def failure(action) -> WorkbenchError:
    with pytest.raises(WorkbenchError) as caught:
        action()
    return caught.value


def test_a_reward_run_brings_its_head_frozen(sft_run, reward_run):
    roles = open_runs({"reference": sft_run, "reward": reward_run})
    assert roles.names == ["reference", "reward"]
    assert set(roles.heads) == {"reward"}
    assert not any(p.requires_grad for p in roles.heads["reward"].parameters())


def test_an_untouched_reward_model_scores_its_probe_as_recorded(roles, reward_run):
    _, probe = load_head(reward_run / "head.safetensors")
    assert len(probe.scores) >= 2
    assert probe.scores.std() > 0.01
    assert check_probe(roles, "reward", probe, reward_run) < 1e-4


def test_the_reward_model_may_come_alone_or_first(sft_run, reward_run):
    open_runs({"reward": reward_run})
    open_runs({"reward": reward_run, "policy": sft_run})


@pytest.mark.parametrize("part", ["weight", "gain", "offset", "bias"])
def test_a_replaced_head_is_noticed(reward_run, tmp_path, part):
    folder = copied(reward_run, tmp_path)
    tensors = load_file(folder.head_path)
    fresh = ScalarHead(64).state_dict()["weight"] if part == "weight" else tensors[part] + 0.7
    save_file({**tensors, part: fresh}, folder.head_path)
    error = failure(lambda: open_runs({"reward": folder.path}))
    assert "probe batch" in error.problem
    assert error.place == str(folder.path)


def test_a_replaced_adapter_is_noticed(sft_run, reward_run, tmp_path):
    folder = copied(reward_run, tmp_path)
    shutil.copy(sft_run / "adapter/adapter_model.safetensors", folder.adapter)
    assert "probe batch" in failure(lambda: open_runs({"reward": folder.path})).problem
    open_runs({"reward": folder.path}, check_probes=False)


def test_a_reward_run_without_its_head_is_refused(reward_run, tmp_path):
    folder = copied(reward_run, tmp_path)
    folder.head_path.unlink()
    assert "no scalar head" in failure(lambda: open_runs({"reward": folder.path})).problem


def test_an_unfinished_run_is_refused(sft_run, tmp_path):
    folder = copied(sft_run, tmp_path, status="started")
    assert "not finished" in failure(lambda: open_runs({"policy": folder.path})).problem
    assert "no run here" in failure(lambda: open_runs({"policy": tmp_path / "none"})).problem


def test_runs_on_two_bases_are_refused(sft_run, reward_run, tiny_base, tmp_path):
    other = BaseSpec(str(changed_base(tiny_base, tmp_path)), None, "nf4", "auto").identified()
    folder = copied(reward_run, tmp_path, base=other.as_record())
    error = failure(lambda: open_runs({"reference": sft_run, "reward": folder.path}))
    assert "its base is" in error.problem
    unquantised = json.loads((sft_run / "run.json").read_text())["base"] | {"quantise": "none"}
    folder.update_record(base=unquantised)
    assert "(none)" in failure(lambda: open_runs({"reference": sft_run, "reward": folder.path})).problem


def test_a_base_may_move_but_not_change(sft_run, tiny_base, tmp_path):
    folder = RunFolder.open(sft_run)
    moved = shutil.copytree(tiny_base, tmp_path / "moved")
    spec = base_of(folder, str(moved))
    assert spec.name == str(moved)
    assert spec.fingerprint == base_of(folder).fingerprint
    open_runs({"policy": sft_run}, base=str(moved))
    error = failure(lambda: base_of(folder, str(changed_base(tiny_base, tmp_path))))
    assert error.place == "model.base"
    assert spec.fingerprint in error.expected


def test_the_dropout_of_base_and_adapter_is_off_in_train_mode(sft_run, tiny_base, tmp_path):
    base = shutil.copytree(tiny_base, tmp_path / "dropping")
    for folder, file, key in (
        (base, "config.json", "attention_dropout"),
        (None, "adapter_config.json", "lora_dropout"),
    ):
        path = (folder or copied(sft_run, tmp_path).adapter) / file
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: 0.5}))
    roles = open_runs({"policy": tmp_path / sft_run.name}, base=str(base))
    ids = torch.tensor([[1, 40, 50, 60, 70, 80]])
    passes = []
    for train in (True, True, False):
        with roles.use("policy", train=train) as forward:
            hidden = forward(ids, torch.ones_like(ids).bool())
            passes.append(hidden.detach())
            if train:
                hidden.sum().backward()
    torch.testing.assert_close(passes[0], passes[1], rtol=0, atol=0)
    torch.testing.assert_close(passes[0], passes[2])


def test_a_base_that_changed_in_its_place_is_refused(sft_run, tiny_base, tmp_path):
    changed = changed_base(tiny_base, tmp_path)
    record = json.loads((sft_run / "run.json").read_text())["base"] | {"name": str(changed)}
    folder = copied(sft_run, tmp_path, base=record)
    assert "another version of base" in failure(lambda: base_of(folder)).problem


def test_a_value_head_starts_as_the_normalised_reward_head():
    torch.manual_seed(0)
    reward, hidden = ScalarHead(8), torch.randn(5, 8)
    reward.normalise(0.4, 2.5)
    with torch.no_grad():
        reward.bias.fill_(0.7)
    value = new_value_head(reward)
    torch.testing.assert_close(value(hidden), reward(hidden))
    assert (value.gain.item(), value.offset.item()) == (1.0, 0.0)
    assert all(p.requires_grad for p in value.parameters())
    with torch.no_grad():
        value.weight.zero_()
    assert reward.weight.any()
