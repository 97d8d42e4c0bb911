"""Weights that are not finite are found in a file of any type, without a model library."""

import pytest
import torch
from safetensors.torch import save_file

from workbench.run.config import Section
from workbench.run.divergence import diverged, require_finite, require_finite_file, tensors_not_finite
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder


class Config(Section):
    seed: int = 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_bad_value_names_its_tensor(tmp_path, dtype, value):
    good = torch.tensor([0.0, -1.0, 1e-6, torch.finfo(dtype).max, torch.finfo(dtype).min], dtype=dtype)
    bad = good.clone()
    bad[3] = value
    path = tmp_path / "adapter.safetensors"
    save_file({"a": good, "b": bad, "c": torch.arange(5), "d": torch.zeros(0)}, path, metadata={"format": "pt"})
    assert tensors_not_finite(path) == ["b"]
    with pytest.raises(WorkbenchError, match="in 1 tensors, the first b: its run diverged") as caught:
        require_finite_file(path, tmp_path)
    assert caught.value.remedy == "train that run again with a lower train.lr, or give another run"


def test_finite_files_pass(tmp_path):
    path = tmp_path / "adapter.safetensors"
    for tensors in ({"a": torch.randn(7, 3)}, {}):
        save_file(tensors, path)
        assert tensors_not_finite(path) == []


def test_the_error_names_moment_value_and_checkpoints(tmp_path):
    folder = RunFolder.create(tmp_path / "run", phase="sft", config=Config())
    require_finite(folder, "in step 3", {"loss": 1e30, "norm": -0.0})
    with pytest.raises(WorkbenchError, match="the run diverged in step 3: norm is nan") as caught:
        require_finite(folder, "in step 3", {"loss": 0.5, "norm": float("nan")})
    assert caught.value.expected == "finite numbers; no checkpoint was saved before it"
    for step in (2, 4):
        (folder.checkpoints / f"step-{step}").mkdir(parents=True)
    error = diverged(folder, "in step 5", "the loss is inf", best=2)
    assert isinstance(error, WorkbenchError)
    assert error.expected == "finite numbers; the last checkpoint before it is step-4, the best one step-2"
    assert "train.lr" in str(error.remedy)
