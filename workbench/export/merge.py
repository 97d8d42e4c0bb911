"""The adapter folded into the weights of its base, as an ordinary folder of transformers.

    W' = W + scale · B A        in float32, rounded once to the dtype of the file; for DoRA, rows rescaled

W is the base as it was in training (dequantised NF4 for an NF4 run) or the base's own files. The NF4 weights
themselves are never written to: merging into them loses most of the adapter.
"""

import copy
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from torch import Tensor
from transformers import GenerationConfig

from workbench.data.template import end_ids
from workbench.model.cpu.dense import active_adapter, unpacked
from workbench.model.roles import Roles
from workbench.run.errors import WorkbenchError
from workbench.run.progress import progress

SHARD = "5GB"
State = dict[str, Tensor]


def merged_state(roles: Roles, *, quiet: bool = False) -> State:
    """Name → float32 weight on the CPU of the merged causal model, under the names of transformers; tied ones once.

    Raises:
        WorkbenchError: a merged weight is not finite.
    """
    causal, state = roles.causal_model, {}
    parameters = [(name, weight) for name, weight in causal.named_parameters() if "lora_" not in name]
    for name, weight in progress(parameters, description="merge", unit="tensor", quiet=quiet):
        if name.endswith(".base_layer.weight"):
            layer = causal.get_submodule(name.removesuffix(".base_layer.weight"))
            weight = unpacked(layer).detach().float()
            adapter = active_adapter(layer)
            if adapter is not None:
                a, b, scale = adapter
                weight = weight + scale * (b.detach().float() @ a.detach().float())
                weight = weight * _row_scale(layer, weight)
        state[name.replace(".base_layer.", ".")] = weight.detach().float().cpu()
        if not bool(state[name.replace(".base_layer.", ".")].sum(dtype=torch.float64).isfinite()):
            raise WorkbenchError(name, "is not finite after merging", remedy="train again: the adapter diverged")
    return state


def _row_scale(layer: Any, weight: Tensor) -> Tensor | float:
    """DoRA's factor of each row of W + scale · B A: its trained magnitude over its norm; 1 for plain LoRA."""
    magnitudes = layer.lora_magnitude_vector
    name = layer.active_adapters[0]
    if name not in magnitudes:
        return 1.0
    magnitude: Tensor = magnitudes[name].weight.detach().float()
    return (magnitude / weight.norm(dim=1)).unsqueeze(1)


def plain_config(roles: Roles, dtype: torch.dtype) -> Any:
    """The configuration of the merged model: the base's, unquantised, in this dtype."""
    causal = roles.causal_model
    config = copy.deepcopy(causal.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.architectures = [type(causal).__name__]
    config.dtype, config.use_cache = dtype, True
    config.eos_token_id = list(end_ids(roles.tokenizer))
    return config


def generation_config(tokenizer: Any) -> GenerationConfig:
    """Where an answer ends; no sampling settings, as in training."""
    return GenerationConfig(
        pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id, eos_token_id=list(end_ids(tokenizer))
    )


def write_model(folder: Path, state: State, config: Any, tokenizer: Any) -> None:
    """Write weights (in the configuration's dtype), configuration and tokenizer; large models in shards."""
    save_torch_state_dict(
        {name: weight.to(config.dtype) for name, weight in state.items()}, folder, max_shard_size=SHARD
    )
    config.save_pretrained(folder)
    if config.architectures[0].endswith("ForCausalLM"):
        generation_config(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
