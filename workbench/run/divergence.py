"""The error of a run that diverged, and checks for numbers and weights that are not finite. Knows files, no model."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from workbench.run.checkpoints import checkpoint_steps
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder

UNIFORM_MARGIN = 1e-4
"""Nats per token: a model that has collapsed to a uniform guess reaches ln V up to rounding."""
LOWER = "a lower train.lr, a longer warm-up (train.warmup_share; ppo: train.warmup_iterations), or a smaller "
LOWER += "train.max_grad_norm"
BASE = "check the weights of the base for NaN and infinite values, or compute in another model.dtype"
EXPONENTS = {
    "F64": ("<u8", 0x7FF << 52),
    "F32": ("<u4", 0xFF << 23),
    "BF16": ("<u2", 0xFF << 7),
    "F16": ("<u2", 0x7C00),
}
"""safetensors dtype → (unsigned integer type, bits of the exponent). NaN and infinity have all of them set."""


def diverged(folder: RunFolder, moment: str, found: str, *, remedy: str = LOWER, best: int | None = None) -> Exception:
    """The error of a run that diverged.

    Args:
        folder: of the run.
        moment: such as `in step 3`.
        found: the symptom, with its value.
        remedy: what to change.
        best: the checkpoint with the best held-out reward, if known.
    """
    steps = checkpoint_steps(folder.checkpoints)
    kept = f"the last checkpoint before it is step-{steps[-1]}" if steps else "no checkpoint was saved before it"
    if best is not None and best in steps:
        kept += f", the best one step-{best}"
    return WorkbenchError(
        folder.path,
        f"the run diverged {moment}: {found}. It is stopped, and no adapter is published",
        expected=f"finite numbers; {kept}",
        remedy=remedy,
    )


def require_finite(folder: RunFolder, moment: str, numbers: Mapping[str, float], *, remedy: str = LOWER) -> None:
    """Check that every number is finite.

    Raises:
        WorkbenchError: one is NaN or infinite.
    """
    bad = [f"{name} is {value}" for name, value in numbers.items() if not math.isfinite(value)]
    if bad:
        raise diverged(folder, moment, ", ".join(bad), remedy=remedy)


def tensors_not_finite(path: Path) -> list[str]:
    """Names of the tensors in a safetensors file that contain NaN or infinity, read without a model library.

    Source: https://huggingface.co/docs/safetensors (8 bytes of length, a JSON header, then the tensors).
    """
    import numpy as np

    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    data = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + length) if header else np.empty(0, np.uint8)
    bad = []
    for name, tensor in header.items():
        if tensor["dtype"] not in EXPONENTS:
            continue
        kind, exponent = EXPONENTS[tensor["dtype"]]
        first, last = tensor["data_offsets"]
        bits = data[first:last].view(kind)
        if bool(((bits & exponent) == exponent).any()):
            bad.append(name)
    return bad


def require_finite_file(path: Path, run: object) -> None:
    """Check that a file of weights contains finite numbers only.

    Raises:
        WorkbenchError: it contains NaN or infinity: the run that wrote it diverged.
    """
    bad = tensors_not_finite(path)
    if bad:
        raise WorkbenchError(
            run,
            f"{path.name} holds NaN or infinite values in {len(bad)} tensors, the first {bad[0]}: its run diverged",
            expected="finite weights",
            remedy="train that run again with a lower train.lr, or give another run",
        )
