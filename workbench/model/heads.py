"""Heads: linear maps from the last hidden state to a score, a value or the logits of labels, in float32.

Heads are float32 because a bfloat16 score has three digits and loses most of an Adam step of 1e-5. They have a file of
their own because peft silently drops a score head when an adapter is loaded onto a causal model. The file of a reward
model's head also holds a probe batch with its recorded scores, so that a later run can verify that it loaded the same
reward model; that of a classifier holds the names of the labels.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from workbench.run.errors import WorkbenchError


class ScalarHead(nn.Module):
    """score = gain · (w·h + b) + offset, all in float32.

    Source: Ziegler et al. 2019, arXiv:1909.08593, section 2.2 (gain and bias that give the scores of the initial
    policy's answers mean 0 and standard deviation 1). `gain` and `offset` are constants; w and b are trained.
    """

    gain: Tensor
    offset: Tensor

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(hidden_size))
        self.bias = nn.Parameter(torch.zeros(()))
        self.register_buffer("gain", torch.ones(()))
        self.register_buffer("offset", torch.zeros(()))
        nn.init.normal_(self.weight, std=1 / math.sqrt(hidden_size + 1))

    def forward(self, hidden: Tensor) -> Tensor:
        """Scores (…,) float32 of hidden states (…, D)."""
        return self.gain * (hidden.float() @ self.weight + self.bias) + self.offset

    def normalise(self, raw_mean: float, raw_std: float) -> None:
        """Set gain and offset so that raw scores of this mean and deviation come out with mean 0 and deviation 1.

        Raises:
            WorkbenchError: the deviation is 0 or not a number.
        """
        if not raw_std > 0:
            raise WorkbenchError(
                "normalisation of the scores",
                f"all answers of the start run get the same score (standard deviation {raw_std:g})",
                expected="scores that differ",
                remedy="a lower train.lr (the fit diverged), or more normalise.answers from a start run that varies",
            )
        self.gain.fill_(1 / raw_std)
        self.offset.fill_(-raw_mean / raw_std)


@dataclass(frozen=True)
class Probe:
    """Token rows with the scores that a reward run recorded for them."""

    ids: Tensor
    """(N, T) int64, right-padded."""
    mask: Tensor
    """(N, T) bool."""
    scores: Tensor
    """(N,) float32, normalised."""


def save_head(path: Path, head: ScalarHead, probe: Probe | None = None) -> None:
    """Write a head, and the probe batch if there is one."""
    tensors = {name: tensor.detach().float().cpu().contiguous() for name, tensor in head.state_dict().items()}
    if probe is not None:
        tensors |= {
            "probe_ids": probe.ids.cpu().contiguous(),
            "probe_mask": probe.mask.to(torch.uint8).cpu().contiguous(),
            "probe_scores": probe.scores.detach().float().cpu().contiguous(),
        }
    _write(path, tensors)


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f".{path.name}.writing")
    save_file(tensors, hidden, metadata)
    hidden.replace(path)


def load_head(path: Path) -> tuple[ScalarHead, Probe | None]:
    """Read a head and its probe batch.

    Raises:
        WorkbenchError: the file is missing or is not a head.
    """
    if not path.is_file():
        raise WorkbenchError(path, "no scalar head here", expected="head.safetensors of a finished reward run")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise WorkbenchError(path, f"cannot be read: {error}", expected="a head written by the reward phase") from None
    missing = {"weight", "bias", "gain", "offset"} - tensors.keys()
    if missing:
        raise WorkbenchError(path, f"lacks {', '.join(sorted(missing))}", expected="a head written by the reward phase")
    probe = None
    if "probe_ids" in tensors:
        probe = Probe(tensors.pop("probe_ids"), tensors.pop("probe_mask").bool(), tensors.pop("probe_scores"))
    head = ScalarHead(tensors["weight"].numel())
    head.load_state_dict(tensors)
    return head, probe


class LabelHead(nn.Linear):
    """Logits (…, K) = W h + b of K labels, in float32 whatever the dtype of the pass; starts at 0, uniform.

    Args:
        labels: K names, in the order of the logits.
        hidden_size: D.
    """

    def __init__(self, labels: Sequence[str], hidden_size: int) -> None:
        super().__init__(hidden_size, len(labels), dtype=torch.float32)
        self.labels = tuple(labels)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """(…, D) → (…, K) float32, outside a trainer's autocast."""
        with torch.autocast(input.device.type, enabled=False):
            return nn.functional.linear(input.float(), self.weight, self.bias)


def save_label_head(path: Path, head: LabelHead) -> None:
    """Write weight, bias and the names of the labels."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in head.state_dict().items()}
    _write(path, tensors, {"labels": json.dumps(head.labels, ensure_ascii=False)})


def load_label_head(path: Path) -> LabelHead:
    """Read what `save_label_head` wrote, equal to the bit.

    Raises:
        WorkbenchError: the file is missing or is not a head of labels.
    """
    expected = "head.safetensors of a finished classification run"
    if not path.is_file():
        raise WorkbenchError(path, "no head here", expected=expected)
    try:
        with safe_open(path, framework="pt") as file:
            labels = json.loads((file.metadata() or {}).get("labels", "null"))
        tensors = load_file(path)
    except (SafetensorError, ValueError) as error:
        raise WorkbenchError(path, f"cannot be read: {error}", expected=expected) from None
    weight = tensors.get("weight")
    if not isinstance(labels, list) or weight is None or weight.shape[:1] != (len(labels),) or "bias" not in tensors:
        raise WorkbenchError(path, "is not a head of labels", expected=expected)
    head = LabelHead(labels, weight.shape[1])
    head.load_state_dict(tensors)
    return head
