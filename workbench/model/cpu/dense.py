"""A Llama's forward pass on plain float32 weights, for CPUs: base unpacked once, adapter merged at each pass.

On a CPU a small model spends more time in the modules of transformers, peft and bitsandbytes than in its products. What
is computed is the same, up to rounding. It costs the memory of the unpacked base, and once more while a pass is under
way. The NF4 base itself is left as it is. One of the files that know peft and bitsandbytes.

Shapes: B = rows, T = tokens of a row, D = hidden, n = selected tokens.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import psutil
import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import LlamaModel
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from workbench.model.base import full_size
from workbench.model.cpu.blocks import blocks_of, cores, in_blocks, on_each_core, one_thread_per_op
from workbench.model.cpu.kernels import Adapter, causal_attention, linear, merged, rms_norm, rotary, swiglu
from workbench.model.masks import causal_mask, position_ids

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(number of a layer, queries (B, H, T, d), keys and values (B, H_kv, T, d)) → what is read (B, H, T, d)."""

COPIES = 4
"""Unpacked bases that must fit the free memory: the one that is kept, a merged one, and room for the rest."""

MODULES_ONLY = "WORKBENCH_MODULES"
"""Environment variable that, when set, keeps a CPU on the modules' path too, which is what a GPU runs: to test that."""

SHORT = 96
"""Tokens up to which all scores of a row are written out, as fewer and larger products."""


class Linears:
    """Frozen linear layers that read the same input, as one: their unpacked weights, and where their adapters are."""

    def __init__(self, *layers: Any) -> None:
        self.layers = layers
        self.weight = torch.cat([unpacked(layer) for layer in layers])

    def merged(self) -> "Merged":
        """With the adapter that is active now."""
        adapters = [active_adapter(layer) or self._none_for(layer) for layer in self.layers]
        return Merged(merged(self.weight, adapters), adapters)

    def _none_for(self, layer: Any) -> Adapter:
        """An adapter of rank 0."""
        base = _base_of(layer)
        return self.weight.new_zeros(0, base.in_features), self.weight.new_zeros(base.out_features, 0), 0.0


@dataclass(frozen=True)
class Merged:
    """What `Linears` compute with one adapter merged."""

    weight: Tensor
    adapters: list[Adapter]

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """(N, D) → (N, ΣO), with the residual added."""
        return linear(x, self.weight, self.adapters, residual)

    @property
    def trained(self) -> list[Tensor]:
        """The adapters' weights that need a gradient."""
        return [weight for a, b, _ in self.adapters for weight in (a, b) if weight.requires_grad]


class Layer:
    """One decoder layer."""

    def __init__(self, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.norms = layer.input_layernorm, layer.post_attention_layernorm
        self.qkv = Linears(attention.q_proj, attention.k_proj, attention.v_proj)
        self.out = Linears(attention.o_proj)
        self.gate_up = Linears(mlp.gate_proj, mlp.up_proj)
        self.down = Linears(mlp.down_proj)
        self.groups = self.qkv, self.out, self.gate_up, self.down


class Dense:
    """The decoder of a causal model, computed with whatever adapter is active.

    Args:
        decoder: transformers' Llama, of which `can_be_dense` is true.
    """

    def __init__(self, decoder: Any) -> None:
        self.decoder = decoder
        self.layers = [Layer(layer) for layer in decoder.layers]
        self.linears = [layer for part in self.layers for group in part.groups for layer in group.layers]
        self.modules = [decoder] + [module for layer in decoder.layers for module in layer.modules()]
        self.heads: tuple[int, int] = decoder.config.num_attention_heads, decoder.config.num_key_value_heads

    def __call__(self, ids: Tensor, mask: Tensor, at: Tensor | None = None) -> Tensor:
        """Final hidden states.

        Args:
            ids: (B, T) int64.
            mask: (B, T) bool, True on real tokens.
            at: (B, T) bool, True on the tokens whose states are wanted.

        Returns:
            (n, D) in the order of the rows; without `at`, (B, T, D), 0 on padding.
        """
        if at is None:
            states = self(ids, mask, mask)
            return states.new_zeros(*ids.shape, states.shape[1]).masked_scatter(mask.unsqueeze(-1), states)
        with one_thread_per_op():
            return self._in_blocks(ids, mask, at)

    def _in_blocks(self, ids: Tensor, mask: Tensor, at: Tensor) -> Tensor:
        layers = self.merged()
        weights = [weight for layer in layers for linears in layer for weight in linears.trained]
        x = self.decoder.embed_tokens(ids)
        if x.requires_grad:  # somebody asks for the gradient of the embeddings
            return self._read(layers, x, mask, at)
        blocks = [(rows, slice(width)) for rows, width in blocks_of(mask | at, cores())]
        places = (at.flatten().cumsum(0) - 1).view(at.shape)
        order = torch.cat([places[block][at[block]] for block in blocks])
        states = in_blocks(lambda block: self._read(layers, x[block], mask[block], at[block]), blocks, weights)
        return states[order.argsort()]

    def merged(self) -> list[tuple[Merged, ...]]:
        """The linear layers of each decoder layer with the adapter that is active now."""
        return on_each_core(lambda layer: tuple(linears.merged() for linears in layer.groups), self.layers)

    def _read(self, layers: list[tuple[Merged, ...]], x: Tensor, mask: Tensor, at: Tensor) -> Tensor:
        """Whole rows."""
        reads = causal_mask(mask)

        def attend(_: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return self.attention(q, k, v, reads)

        positions = torch.arange(x.shape[1]).unsqueeze(0) if reads is None else position_ids(mask)
        return self.states(layers, x, positions, attend, at)

    def attention(self, q: Tensor, k: Tensor, v: Tensor, reads: Tensor | None) -> Tensor:
        """(B, H, T, d) from queries, keys and values; `reads` is from `causal_mask`."""
        if reads is None and q.shape[2] <= SHORT:
            return causal_attention(q, k, v)
        return scaled_dot_product_attention(
            q, k, v, attn_mask=reads, is_causal=reads is None, enable_gqa=self.heads[0] > self.heads[1]
        )

    def states(
        self, layers: list[tuple[Merged, ...]], x: Tensor, positions: Tensor, attend: Attend, at: Tensor
    ) -> Tensor:
        """Final hidden states.

        Args:
            layers: from `merged`.
            x: (B, T, D) embeddings.
            positions: (B or 1, T) int64.
            attend: what reads the keys and values.
            at: (B, T) bool, the tokens whose states are wanted.

        Returns:
            (n, D) in the order of the rows.
        """
        cos, sin = self.decoder.rotary_emb(x, positions)
        shape, x = x.shape[:2], x.flatten(0, 1)
        for number, (layer, (qkv, out, gate_up, down)) in enumerate(zip(self.layers, layers, strict=True)):
            q, k, v = rotary(qkv(_normed(x, layer.norms[0])).unflatten(0, shape), cos, sin, *self.heads)
            read = attend(number, q, k, v).transpose(1, 2).flatten(0, 1).flatten(1)
            if layer is self.layers[-1]:  # no later layer reads the other tokens
                read, x = read[at.flatten()], x[at.flatten()]
            x = out(read, x)
            x = down(swiglu(gate_up(_normed(x, layer.norms[1]))), x)
        return _normed(x, self.decoder.norm)

    def applies(self) -> bool:
        """Whether the modules would compute the same at this moment: nothing is hooked in, dropped or recomputed."""
        recomputes = self.decoder.training and self.decoder.gradient_checkpointing
        hooked = any(module._forward_hooks or module._forward_pre_hooks for module in self.modules)
        return not recomputes and not hooked and all(map(_is_plain, self.linears))

    def trains(self) -> bool:
        """Whether it would apply in train mode, too."""
        adapters = [layer for layer in self.linears if isinstance(layer, LoraLayer)]
        drops = any(getattr(dropout, "p", 0.0) > 0 for layer in adapters for dropout in layer.lora_dropout.values())
        return not drops and not self.decoder.gradient_checkpointing


def dense_of(decoder: Any) -> Dense | None:
    """The dense form of a decoder, made when it is first asked for; None where there is none, or not at this moment."""
    if "dense" not in vars(decoder):
        vars(decoder)["dense"] = Dense(decoder) if can_be_dense(decoder) else None
    dense: Dense | None = vars(decoder)["dense"]
    return dense if dense is not None and dense.applies() else None


def install(decoder: Any) -> None:
    """Let whatever calls this decoder have its dense form, such as a trainer of TRL's; generation goes on as before."""
    of_modules = decoder.forward

    @wraps(of_modules)
    def forward(
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        **others: Any,
    ) -> BaseModelOutputWithPast:
        unusual = position_ids is not None or any(other is not None and other is not False for other in others.values())
        dense = None if input_ids is None or unusual else dense_of(decoder)
        if dense is None or input_ids is None or (attention_mask is not None and attention_mask.ndim != 2):
            found: BaseModelOutputWithPast = of_modules(
                input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, **others
            )
            return found
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        return BaseModelOutputWithPast(last_hidden_state=dense(input_ids, mask.bool()))

    decoder.forward = forward


def can_be_dense(decoder: nn.Module) -> bool:
    """Whether this is a Llama in float32 on a CPU, without biases, and the memory for its dense form is at hand."""
    if os.environ.get(MODULES_ONLY):
        return False
    if type(decoder) is not LlamaModel or decoder.config.hidden_act != "silu" or decoder.config.attention_dropout:
        return False
    if decoder.rotary_emb.rope_type in ("dynamic", "longrope"):  # angles depend on the longest row of a batch
        return False
    weight = decoder.embed_tokens.weight
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        return False
    layer: Any
    for layer in decoder.layers:
        linears = [
            part for part in (*layer.self_attn.children(), *layer.mlp.children()) if part is not layer.mlp.act_fn
        ]
        if not all(map(_is_frozen_linear, linears)) or type(layer.input_layernorm) is not LlamaRMSNorm:
            return False
    needed = COPIES * weight.element_size() * sum(map(full_size, decoder.parameters()))
    available: int = psutil.virtual_memory().available
    return needed < available


def unpacked(layer: Any) -> Tensor:
    """The weight (O, D) that a frozen linear layer stands for, without its adapters."""
    base = _base_of(layer)
    nf4 = isinstance(base, Linear4bit)
    weight: Tensor = dequantize_4bit(base.weight.data, base.weight.quant_state) if nf4 else base.weight.data
    return weight


def active_adapter(layer: Any) -> Adapter | None:
    """The weights of a layer's active adapter and their scale; None where it has none."""
    name = layer.active_adapters[0] if isinstance(layer, LoraLayer) else None
    if name not in getattr(layer, "lora_A", ()):
        return None
    return layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name]


def _base_of(layer: Any) -> Any:
    return layer.get_base_layer() if isinstance(layer, LoraLayer) else layer


def _is_frozen_linear(layer: Any) -> bool:
    base = _base_of(layer)
    return isinstance(base, nn.Linear) and base.bias is None and not base.weight.requires_grad


def _is_plain(layer: Any) -> bool:
    """Whether a linear layer now computes W x + s·B·A x with one adapter."""
    if not isinstance(layer, LoraLayer):
        return True
    (name, *others), dropout = layer.active_adapters, layer.lora_dropout
    changed = layer.disable_adapters or layer.merged or others or name in layer.lora_variant
    if changed or name not in dropout:
        return not changed
    dropped = getattr(dropout[name], "p", 0.0) > 0 and dropout[name].training
    return not dropped and layer.lora_A[name].weight.dtype == torch.float32


def _normed(x: Tensor, norm: Any) -> Tensor:
    return rms_norm(x, norm.weight, norm.variance_epsilon)
