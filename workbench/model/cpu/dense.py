"""A Llama's forward pass on plain float32 weights, for CPUs: base unpacked once, adapter merged at each pass.

On a CPU a small model spends more time in the modules of transformers, peft and bitsandbytes than in its products.
The result is the same up to rounding. The cost is memory: the unpacked base, and a merged copy during a pass. The NF4
base is never written to. One of the files that know peft and bitsandbytes; `entrance.py` decides when this is used.

Shapes: B = rows, T = tokens of a row, D = hidden, H = query heads, H_kv = key and value heads, d = head size,
n = selected tokens, N = tokens of all rows, ΣO = output features of layers that read the same input.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from peft.tuners.lora import LoraLayer
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from workbench.model.cpu.blocks import blocks_of, cores, in_blocks, on_each_core, one_thread_per_op
from workbench.model.cpu.kernels import Adapter, causal_attention, linear, merge_adapters, rms_norm, rotary, swiglu
from workbench.model.masks import causal_mask, position_ids

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer number, queries (B, H, T, d), keys and values (B, H_kv, T, d)) → attention output (B, H, T, d)."""

SHORT = 96
"""Row length up to which attention writes out its (T, T) scores: fewer and larger products than torch's kernel."""


class Linears:
    """Frozen linear layers that read the same input, as one layer: the unpacked weights side by side."""

    def __init__(self, *layers: Any) -> None:
        self.layers = layers
        self.weight = torch.cat([unpacked(layer) for layer in layers])

    def merge(self) -> "MergedLinears":
        """The layers with the active adapter merged into a copy of the weights."""
        adapters = [active_adapter(layer) or self._no_adapter(layer) for layer in self.layers]
        return MergedLinears(merge_adapters(self.weight, adapters), adapters)

    def _no_adapter(self, layer: Any) -> Adapter:
        """An adapter of rank 0."""
        base = frozen_base_of(layer)
        return self.weight.new_zeros(0, base.in_features), self.weight.new_zeros(base.out_features, 0), 0.0


@dataclass(frozen=True)
class MergedLinears:
    """`Linears` with one adapter merged."""

    weight: Tensor
    """(ΣO, D), a tensor of its own: no later pass writes to it, so a backward pass may come after other passes."""
    adapters: list[Adapter]

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """(N, D) → (N, ΣO), plus the residual if there is one."""
        return linear(x, self.weight, self.adapters, residual)

    @property
    def trained(self) -> list[Tensor]:
        """The adapter weights that need a gradient."""
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
    """The decoder of a causal model, computed with the adapter that is active at each call.

    Args:
        decoder: a Llama for which `entrance.why_not` gives no reason.
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
            at: (B, T) bool, True on the tokens whose states are returned; None for all.

        Returns:
            (n, D), row by row; without `at`, (B, T, D), 0 on padding.
        """
        if at is None:
            states = self(ids, mask, mask)
            return states.new_zeros(*ids.shape, states.shape[1]).masked_scatter(mask.unsqueeze(-1), states)
        with one_thread_per_op():
            return self._in_blocks(ids, mask, at)

    def _in_blocks(self, ids: Tensor, mask: Tensor, at: Tensor) -> Tensor:
        """`__call__` with `at`, in blocks of rows that run at the same time."""
        layers = self.merge()
        weights = [weight for layer in layers for linears in layer for weight in linears.trained]
        x = self.decoder.embed_tokens(ids)  # (B, T, D)
        if x.requires_grad:  # someone wants the gradient of the embeddings, which blocks would not return
            return self._whole_rows(layers, x, mask, at)
        blocks = [(rows, slice(width)) for rows, width in blocks_of(mask | at, cores())]
        numbers = (at.flatten().cumsum(0) - 1).view(at.shape)  # (B, T): where a token's state belongs in the result;
        # −1 because the running count at a selected token includes the token itself
        order = torch.cat([numbers[block][at[block]] for block in blocks])
        states = in_blocks(lambda block: self._whole_rows(layers, x[block], mask[block], at[block]), blocks, weights)
        return states[order.argsort()]

    def merge(self) -> list[tuple[MergedLinears, ...]]:
        """The linear layers of each decoder layer with the active adapter merged."""
        return on_each_core(lambda layer: tuple(linears.merge() for linears in layer.groups), self.layers)

    def _whole_rows(self, layers: list[tuple[MergedLinears, ...]], x: Tensor, mask: Tensor, at: Tensor) -> Tensor:
        """States (n, D) of rows that attend to themselves only, from embeddings (B, T, D)."""
        visible = causal_mask(mask)

        def attend(_: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return self.attention(q, k, v, visible)

        positions = torch.arange(x.shape[1]).unsqueeze(0) if visible is None else position_ids(mask)
        return self.states(layers, x, positions, attend, at)

    def attention(self, q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None) -> Tensor:
        """Attention output (B, H, T, d); `visible` comes from `causal_mask`."""
        if visible is None and q.shape[2] <= SHORT:
            return causal_attention(q, k, v)
        return scaled_dot_product_attention(
            q, k, v, attn_mask=visible, is_causal=visible is None, enable_gqa=self.heads[0] > self.heads[1]
        )

    def states(
        self, layers: list[tuple[MergedLinears, ...]], x: Tensor, positions: Tensor, attend: Attend, at: Tensor
    ) -> Tensor:
        """Final hidden states.

        Args:
            layers: from `merge`.
            x: (B, T, D) embeddings.
            positions: (B or 1, T) int64.
            attend: computes attention; the decode loop keeps a cache there.
            at: (B, T) bool, the tokens whose states are returned.

        Returns:
            (n, D), row by row.
        """
        cos, sin = self.decoder.rotary_emb(x, positions)  # (B or 1, T, d)
        shape, x = x.shape[:2], x.flatten(0, 1)  # (N, D)
        for number, (layer, (qkv, out, gate_up, down)) in enumerate(zip(self.layers, layers, strict=True)):
            q, k, v = rotary(qkv(_normed(x, layer.norms[0])).unflatten(0, shape), cos, sin, *self.heads)
            attended = attend(number, q, k, v).transpose(1, 2).flatten(0, 1).flatten(1)  # (N, H·d)
            if layer is self.layers[-1]:  # no later layer needs the other tokens
                attended, x = attended[at.flatten()], x[at.flatten()]
            x = out(attended, x)
            x = down(swiglu(gate_up(_normed(x, layer.norms[1]))), x)
        return _normed(x, self.decoder.norm)


def unpacked(layer: Any) -> Tensor:
    """The weight (O, D) of a frozen linear layer without its adapters, dequantised if it is stored in NF4."""
    base = frozen_base_of(layer)
    nf4 = isinstance(base, Linear4bit)
    weight: Tensor = dequantize_4bit(base.weight.data, base.weight.quant_state) if nf4 else base.weight.data
    return weight


def active_adapter(layer: Any) -> Adapter | None:
    """The weights and the scale of a layer's active adapter; None if it has none."""
    name = layer.active_adapters[0] if isinstance(layer, LoraLayer) else None
    if name not in getattr(layer, "lora_A", ()):
        return None
    return layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name]


def frozen_base_of(layer: Any) -> Any:
    """The linear layer under peft's wrapper, or the layer itself."""
    return layer.get_base_layer() if isinstance(layer, LoraLayer) else layer


def _normed(x: Tensor, norm: Any) -> Tensor:
    return rms_norm(x, norm.weight, norm.variance_epsilon)
