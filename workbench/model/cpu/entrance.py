"""The one entrance to the CPU kernels: `model.kernels`, whether they apply, and the forward pass they replace.

`auto` uses them wherever they compute the same function as the modules of transformers, peft and bitsandbytes (up to
rounding); `modules` never does. The choice is an attribute of the decoder, set by `workbench.model.base.load_base`.
"""

from collections.abc import Iterator
from functools import wraps
from typing import Any

import psutil
import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import LlamaModel
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from workbench.model.base import full_size
from workbench.model.cpu.dense import Dense, frozen_base_of

COPIES = 4
"""Unpacked bases that must fit in free memory: the one that is kept, a merged one, and room for the rest."""


def cpu_kernels(decoder: Any) -> Dense | None:
    """The CPU kernels of a decoder, built on first use; None if the modules must run, always or at this moment."""
    if getattr(decoder, "kernels", "auto") == "modules":
        return None
    dense = _dense_or_reason(decoder)
    return dense if isinstance(dense, Dense) and _apply_now(dense) else None


def reason_for_modules(decoder: Any, *, recomputes: bool) -> str | None:
    """Why training runs on the modules; None if it runs on the CPU kernels.

    Args:
        decoder: with its adapters.
        recomputes: activation checkpointing is, or will be, switched on.
    """
    if getattr(decoder, "kernels", "auto") == "modules":
        return "model.kernels"
    if recomputes:
        return "activation checkpointing"
    if any(map(_drops, decoder.modules())):
        return "dropout in the adapter"
    if any(isinstance(module, LoraLayer) and module.lora_variant for module in decoder.modules()):
        return "DoRA"
    dense = _dense_or_reason(decoder)
    return dense if isinstance(dense, str) else None


def _dense_or_reason(decoder: Any) -> Dense | str:
    """Built or refused once per decoder: the check of the free memory would fail after it has been used."""
    if "dense" not in vars(decoder):
        vars(decoder)["dense"] = why_not(decoder) or Dense(decoder)
    dense: Dense | str = vars(decoder)["dense"]
    return dense


def accelerate(decoder: Any) -> None:
    """Let a trainer of TRL's, which calls the decoder itself, use the CPU kernels wherever `cpu_kernels` allows it.

    Calls with arguments that the kernels do not take (a cache, positions, a 4D mask) go to the modules as before.
    """
    modules_forward = decoder.forward

    @wraps(modules_forward)
    def forward(
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        **others: Any,
    ) -> BaseModelOutputWithPast:
        unusual = position_ids is not None or any(other is not None and other is not False for other in others.values())
        dense = None if input_ids is None or unusual else cpu_kernels(decoder)
        if dense is None or input_ids is None or (attention_mask is not None and attention_mask.ndim != 2):
            output: BaseModelOutputWithPast = modules_forward(
                input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, **others
            )
            return output
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        return BaseModelOutputWithPast(last_hidden_state=dense(input_ids, mask.bool()))

    decoder.forward = forward


def why_not(decoder: nn.Module) -> str | None:
    """The first reason why the CPU kernels cannot compute this decoder; None if they can."""
    return next(_obstacles(decoder), None)


def _obstacles(decoder: Any) -> Iterator[str]:
    if type(decoder) is not LlamaModel:
        yield f"{type(decoder).__name__} is not a Llama"
        return
    config, weight = decoder.config, decoder.embed_tokens.weight
    if weight.device.type != "cpu":
        yield f"the base is on {weight.device.type}"
    if weight.dtype != torch.float32:
        yield f"the base is in {str(weight.dtype).removeprefix('torch.')}"
    if config.hidden_act != "silu":
        yield f"its activation is {config.hidden_act}"
    if config.attention_dropout:
        yield "the base has attention dropout"
    if decoder.rotary_emb.rope_type in ("dynamic", "longrope"):
        yield f"rope type {decoder.rotary_emb.rope_type}: its angles depend on the longest row of a batch"
    for layer in decoder.layers:
        yield from _obstacles_of_layer(layer)
    needed = COPIES * weight.element_size() * sum(map(full_size, decoder.parameters()))
    if needed >= psutil.virtual_memory().available:
        yield f"the unpacked base and its copies need {needed / 2**30:.1f} GiB of free memory"


def _obstacles_of_layer(layer: Any) -> Iterator[str]:
    parts = (*layer.self_attn.children(), *layer.mlp.children())
    if not all(_is_frozen_linear(part) for part in parts if part is not layer.mlp.act_fn):
        yield "a linear layer of the base has a bias or is trained"
    if type(layer.input_layernorm) is not LlamaRMSNorm:
        yield f"its norms are {type(layer.input_layernorm).__name__}"


def _is_frozen_linear(layer: Any) -> bool:
    base = frozen_base_of(layer)
    return isinstance(base, nn.Linear) and base.bias is None and not base.weight.requires_grad


def _apply_now(dense: Dense) -> bool:
    """Whether the modules would compute the same at this moment: no hook, no dropout, no recomputation."""
    recomputes = dense.decoder.training and dense.decoder.gradient_checkpointing
    hooked = any(module._forward_hooks or module._forward_pre_hooks for module in dense.modules)
    return not recomputes and not hooked and all(map(_is_plain, dense.linears))


def _is_plain(layer: Any) -> bool:
    """Whether a linear layer now computes W x + s·B·A x with at most one adapter."""
    if not isinstance(layer, LoraLayer):
        return True
    name, *others = layer.active_adapters
    if layer.disable_adapters or layer.merged or others or name in layer.lora_variant:  # a variant is DoRA and its like
        return False
    if name not in layer.lora_dropout:  # the active adapter leaves this layer alone
        return True
    drops = getattr(layer.lora_dropout[name], "p", 0.0) > 0 and layer.lora_dropout[name].training
    return not drops and layer.lora_A[name].weight.dtype == torch.float32


def _drops(module: nn.Module) -> bool:
    return isinstance(module, LoraLayer) and any(getattr(d, "p", 0.0) > 0 for d in module.lora_dropout.values())
