"""Adapters on a frozen base: their shape, their weights under the names of peft's files, and how they are loaded.

LoRA adds a low-rank product to each linear layer (with DoRA, it also rescales the columns). A soft prompt is n learned
embeddings before the row (Lester et al. 2021, arXiv 2104.08691); a prefix is n learned keys and values in each layer
(Li and Liang 2021, arXiv 2101.00190). The tokens of a row attend to these n virtual tokens, whose
positions are 0 to n − 1.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftConfig, PeftModel, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from peft.utils import load_peft_weights
from torch import Tensor, nn
from transformers import PreTrainedModel

from workbench.model.base import keep_cpu_weights_in_place
from workbench.model.cpu.entrance import accelerate
from workbench.run.divergence import require_finite_file
from workbench.run.errors import WorkbenchError

SOFT_PROMPT = "prompt_embeddings"
"""Name of the weights of a soft prompt or a prefix in peft's files."""


def lora_config(
    r: int,
    alpha: int,
    dropout: float,
    *,
    task: str = "CAUSAL_LM",
    variant: Literal["plain", "rslora", "dora"] = "plain",
) -> LoraConfig:
    """A LoRA adapter on every linear layer except the LM head or score head."""
    return LoraConfig(
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules="all-linear",
        bias="none",
        task_type=task,
        use_rslora=variant == "rslora",
        use_dora=variant == "dora",
    )


def soft_prompt_config(kind: Literal["prompt", "prefix"], tokens: int) -> PeftConfig:
    """A soft prompt that starts as random tokens of the vocabulary, or a prefix that starts as random numbers."""
    common: dict[str, Any] = {"num_virtual_tokens": tokens, "task_type": "CAUSAL_LM"}
    if kind == "prefix":
        return PrefixTuningConfig(**common)
    return PromptTuningConfig(prompt_tuning_init="SAMPLE_VOCAB", **common)


def start_training_adapter(base: PreTrainedModel, config: PeftConfig, start: Path | None = None) -> PeftModel:
    """A PeftModel with one trainable adapter named `default` (the name TRL's trainers expect).

    Args:
        base: frozen base, causal or with a score head.
        config: shape of the adapter; replaced by the start adapter's shape if one is given.
        start: adapter folder to copy the weights from.
    """
    if start is not None:
        check_adapter(start)
        config = _shaped_like(start, config)
    model = get_peft_model(base, config)
    if start is not None:
        load_adapter(model, "default", read_adapter(start), place=start)
    keep_cpu_weights_in_place(model)
    causal: Any = causal_model_of(model)
    if virtual_tokens_of(model) == 0:
        accelerate(causal.model)
    return model


def lora_plus(
    model: PeftModel, kind: type[torch.optim.Optimizer], ratio: float, weight_decay: float, options: dict[str, Any]
) -> torch.optim.Optimizer:
    """An optimizer in which B of every LoRA learns `ratio` times as fast as A (LoRA+).

    Source: Hayou, Ghosh and Yu 2024, arXiv 2402.12354. `options` are those of the optimizer, with `lr`.
    """
    options = {**options, "loraplus_weight_decay": weight_decay}
    return create_loraplus_optimizer(model, kind, loraplus_lr_ratio=ratio, **options)


def _shaped_like(start: Path, config: PeftConfig) -> PeftConfig:
    """The trainable shape of the adapter in a folder; task and dropout of a LoRA come from `config`."""
    old: Any = PeftConfig.from_pretrained(str(start))
    if isinstance(old, LoraConfig):
        shape = {"r": old.r, "lora_alpha": old.lora_alpha, "use_rslora": old.use_rslora, "use_dora": old.use_dora}
        return LoraConfig(**{**config.to_dict(), **shape})
    old.inference_mode = False
    return old


def virtual_tokens_of(model: PeftModel) -> int:
    """The number of virtual tokens before each row; 0 for LoRA."""
    return max(getattr(config, "num_virtual_tokens", 0) for config in model.peft_config.values())


def causal_model_of(model: PeftModel) -> Any:
    """The model of transformers inside: peft wraps it once for a soft prompt, twice for LoRA."""
    return model.base_model if virtual_tokens_of(model) else model.base_model.model


def adapters_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Whether two adapters hold the same values."""
    return first.keys() == second.keys() and all(torch.equal(first[k].cpu(), second[k].cpu()) for k in first)


def check_adapter(folder: Path) -> None:
    """Check that a folder holds an adapter whose weights are finite.

    Raises:
        WorkbenchError: a file is missing, or a weight is not finite.
    """
    wanted: Sequence[str] = ("adapter_config.json", "adapter_model.safetensors")
    missing = [name for name in wanted if not (folder / name).is_file()]
    if missing:
        raise WorkbenchError(
            folder,
            f"no adapter here ({', '.join(missing)} missing)",
            expected="the adapter/ folder of a finished run",
        )
    require_finite_file(folder / "adapter_model.safetensors", folder)


def frozen_config(adapter: Path, base: PreTrainedModel) -> PeftConfig:
    """The shape of an adapter in a folder, for use on a causal base without gradients."""
    check_adapter(adapter)
    config: Any = PeftConfig.from_pretrained(str(adapter))
    config.inference_mode = True
    if isinstance(config, LoraConfig):
        config.lora_dropout = 0.0  # dropout is for its own training; two passes must give the same log-probabilities
        config.modules_to_save = None  # a score head has a file of its own
    config.task_type = "CAUSAL_LM"
    config.base_model_name_or_path = base.name_or_path  # its present folder
    return config


def adapter_weights(model: nn.Module, role: str) -> dict[str, nn.Parameter]:
    """The weights of a role's adapter, by the names that peft's files give them (without the role)."""
    soft: Any = getattr(model, "prompt_encoder", {})
    if role in soft:
        return {SOFT_PROMPT: soft[role].embedding.weight}
    return {
        name.replace(f".{role}.", ".").replace("magnitude_vector.weight", "magnitude_vector"): parameter
        for name, parameter in model.named_parameters()
        if f".{role}." in name and "lora_" in name
    }


def read_adapter(folder: Path) -> dict[str, Tensor]:
    """Weights of an adapter file; the score head that a reward adapter also carries has a file of its own."""
    weights = load_peft_weights(str(folder), device="cpu")
    return {name: tensor for name, tensor in weights.items() if "lora_" in name or name == SOFT_PROMPT}


def load_adapter(model: nn.Module, role: str, weights: dict[str, Tensor], *, place: object) -> None:
    """Copy weights, named as in peft's files, into a role's adapter.

    Raises:
        WorkbenchError: names or shapes differ; `place` is in the message.
    """
    ours = adapter_weights(model, role)
    missing, unexpected = ours.keys() - weights.keys(), weights.keys() - ours.keys()
    misshapen = [name for name in ours.keys() & weights.keys() if ours[name].shape != weights[name].shape]
    if missing or unexpected or misshapen:
        raise WorkbenchError(
            place,
            f"does not fit this base: {len(missing)} weights missing, {len(unexpected)} unknown, "
            f"{len(misshapen)} of another shape",
            expected="an adapter trained on the same base",
        )
    with torch.no_grad():
        for name, parameter in ours.items():
            parameter.copy_(weights[name])
