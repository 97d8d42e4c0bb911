"""Checks of a base's weights: all there, all finite, and logits that are LM head × hidden state.

Each runs once, when a base is opened, so that a bad base is one clear error before any work.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel

from workbench.data.base_files import weight_files
from workbench.run.errors import WorkbenchError

PROBE_TOKENS = 8
LOGIT_TOLERANCE = 0.01
"""Largest relative difference (of norms) between the model's logits and ours; bfloat16 rounding stays below 0.004."""

SCALES = {"logit_scale": 1.0, "logits_scaling": -1.0, "lm_head_multiplier": 1.0}
"""Key of config.json by which logits are multiplied (power 1) or divided (power -1)."""


def check_complete(name: str, missing: Iterable[str]) -> None:
    """Refuse a base without some of its weights: they would be random.

    Args:
        name: of the base.
        missing: names of weights that its files do not hold.

    Raises:
        WorkbenchError: there are some.
    """
    names = sorted(missing)
    if names:
        more = f" and {len(names) - 6} more" if len(names) > 6 else ""
        raise WorkbenchError(
            f"base {name}",
            f"{len(names)} of its weights are not in the files: {', '.join(names[:6])}{more}",
            expected="every weight of the architecture: the base is incomplete",
            remedy="fetch or save the base again",
        )


def check_finite(name: str, folder: Path) -> None:
    """Refuse a base whose files hold NaN or infinity, which would spread through every run on it.

    Raises:
        WorkbenchError: names the first such tensor.
    """
    for tensor_name, tensor in _stored(folder):
        # A sum of finite numbers is finite, NaN and infinity survive it: one pass, no second tensor.
        if tensor.is_floating_point() and not bool(tensor.sum(dtype=torch.float64).isfinite()):
            bad = int((~tensor.float().isfinite()).sum())
            raise WorkbenchError(
                f"base {name}",
                f"{tensor_name} holds {bad} values that are not finite (NaN or infinity), of {tensor.numel()}",
                expected="finite weights",
                remedy="fetch or save the base again; float16 overflows beyond 65504",
            )


def _stored(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Name and value of each stored weight, one at a time."""
    for path in weight_files(folder):
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - it is no dict
                    yield name, file.get_tensor(name)
        else:
            yield from torch.load(path, map_location="cpu", weights_only=True).items()


def fold_logit_scale(model: PreTrainedModel) -> float:
    """Multiply the LM head by the factor that an architecture applies to its logits; returns the factor.

    Log-probabilities, sampling and the merged copy all use the LM head, so none of them needs to know the scale.
    A tied head becomes a weight of its own, which costs the memory of the embeddings once more.
    """
    factor, config = 1.0, model.config
    for key, power in SCALES.items():
        value = getattr(config, key, None)
        if isinstance(value, (int, float)) and value != 1.0:
            factor *= value**power
            for place in (config, model, model.base_model):
                if hasattr(place, key):
                    setattr(place, key, 1.0)
    if factor != 1.0:
        head: Any = model.get_output_embeddings()
        head.weight = nn.Parameter(head.weight.data * factor, requires_grad=False)
        config.tie_word_embeddings = False
    return factor


def check_logits(name: str, model: Any) -> None:
    """Refuse a base whose logits are not LM head × hidden states, from which log-probabilities are computed.

    Raises:
        WorkbenchError: the architecture has no trunk and LM head as needed, or its logits differ.
    """
    architecture, head = type(model).__name__, model.get_output_embeddings()
    ids = torch.arange(PROBE_TOKENS, device=head.weight.device).remainder(model.config.vocab_size).unsqueeze(0)
    with torch.no_grad():
        own = model(input_ids=ids, use_cache=False).logits.float()
        hidden = model.model(input_ids=ids, position_ids=ids.new_tensor([range(PROBE_TOKENS)]), use_cache=False)
        ours = (hidden.last_hidden_state.to(head.weight.dtype) @ head.weight.T).float()
    difference = float((own - ours).norm() / own.norm().clamp(min=torch.finfo(torch.float32).tiny))
    if not difference <= LOGIT_TOLERANCE:
        raise WorkbenchError(
            f"base {name}",
            f"{architecture} changes its logits after the LM head: they differ from LM head × hidden state by "
            f"{difference:.1%}, and log-probabilities are computed without that",
            expected="a base such as Llama, Mistral, Qwen2 or Gemma",
        )
