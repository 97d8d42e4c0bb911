"""Fused Llama layer operations with hand-written backward passes.

A linear layer with a LoRA adapter is one product with the merged weight, forward and backward; only the adapter gets a
gradient. Shapes: N = tokens of all rows, B = rows, T = tokens of a row, D = input and O = output features, r = rank.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

Adapter = tuple[Tensor, Tensor, float]
"""LoRA weights A (r, D) and B (O, r), and the scale s of their product: W' = W + s·B·A."""


def merge_adapters(weight: Tensor, adapters: Sequence[Adapter]) -> Tensor:
    """W' = W + s·B·A of linear layers that read the same input, stacked.

    Args:
        weight: (ΣO, D) of the frozen layers.
        adapters: one per layer, in the same order; r = 0 for a layer without one.

    Returns:
        (ΣO, D), a new tensor without a gradient.
    """
    parts = weight.split([b.shape[0] for _, b, _ in adapters])
    whole = torch.empty_like(weight)
    for part, (a, b, scale), out in zip(parts, adapters, whole.split([len(p) for p in parts]), strict=True):
        torch.addmm(part, b.detach(), a.detach(), alpha=scale, out=out)
    return whole


def linear(x: Tensor, weight: Tensor, adapters: Sequence[Adapter], residual: Tensor | None = None) -> Tensor:
    r"""Linear layers that read the same input, in one product; gradients as if the adapters had not been merged.

        y = x W'ᵀ (+ residual)
        ∂L/∂x = G W',  ∂L/∂A = s (G B)ᵀ x,  ∂L/∂B = s Gᵀ (x Aᵀ),  G = ∂L/∂y

    Source: Hu et al. 2021, arXiv:2106.09685, eq. 3.

    Args:
        x: (N, D).
        weight: (ΣO, D) from `merge_adapters`.
        adapters: the merged ones.
        residual: (N, ΣO), added to the product; None for none.

    Returns:
        (N, ΣO).
    """
    weights = [weight for a, b, _ in adapters for weight in (a, b)]
    y: Tensor = _Linear.apply(x, weight, residual, [scale for *_, scale in adapters], *weights)
    return y


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, residual: Tensor | None, scales: list[float], *weights: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, weight, *weights)
        ctx.scales = scales
        return x @ weight.T if residual is None else torch.addmm(residual, x, weight.T)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *weights = ctx.saved_tensors
        of_x = gradient @ weight if ctx.needs_input_grad[0] else None
        of_residual = gradient if ctx.needs_input_grad[2] else None
        if not any(ctx.needs_input_grad[4:]):
            return of_x, None, of_residual, None, *(None for _ in weights)
        every_a, every_b = weights[::2], weights[1::2]
        ranks = [len(a) for a in every_a]
        parts = gradient.split([len(b) for b in every_b], dim=1)
        inner = torch.cat([part @ b for part, b in zip(parts, every_b, strict=True)], dim=1)
        of_a = (inner.T @ x).split(ranks)
        low = (x @ torch.cat(every_a).T).split(ranks, dim=1)
        of_weights = [
            gradient
            for scale, da, part, z in zip(ctx.scales, of_a, parts, low, strict=True)
            for gradient in (da * scale, (part.T @ z) * scale)
        ]
        return of_x, None, of_residual, None, *of_weights


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    r"""Root-mean-square normalisation.

        y = w ⊙ x ρ,  ρ = (mean_d x² + ε)^(−1/2)
        ∂L/∂x = ρ (g − x̂ mean_d(g x̂)),  g = w ⊙ ∂L/∂y,  x̂ = x ρ

    Source: Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4.

    Args:
        x: (N, D).
        weight: (D,), frozen.
        eps: ε.
    """
    y: Tensor = _RmsNorm.apply(x, weight, eps)
    return y


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        inverse = (torch.linalg.vecdot(x, x) / x.shape[-1] + eps).rsqrt_().unsqueeze(-1)
        ctx.save_for_backward(x, weight, inverse)
        return (x * inverse).mul_(weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        x, weight, inverse = ctx.saved_tensors
        of_x = gradient * weight
        along = torch.linalg.vecdot(of_x, x).unsqueeze(-1).mul_(inverse * inverse / x.shape[-1])
        return of_x.addcmul_(x, along, value=-1).mul_(inverse), None, None


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    r"""Causal attention in a few products over all rows and heads; every token attends to itself and those before it.

        y = P v,  P = softmax(q kᵀ / √d + mask)
        ∂L/∂v = Pᵀ G,  ∂L/∂s = P ⊙ (G vᵀ − Σ (G vᵀ) ⊙ P),  ∂L/∂q = ∂L/∂s k / √d,  ∂L/∂k = (∂L/∂s)ᵀ q / √d

    Faster for short rows than a kernel that goes from head to head; memory grows with T².
    Source: Vaswani et al. 2017, arXiv:1706.03762, eq. 1; each key head serves H / H_kv query heads.

    Args:
        q: (B, H, T, d).
        k: (B, H_kv, T, d).
        v: (B, H_kv, T, d).

    Returns:
        (B, H, T, d).
    """
    heads, width, size = q.shape[0] * k.shape[1], q.shape[2], q.shape[3]
    hidden = torch.full((width, width), -torch.inf, dtype=q.dtype).triu_(1).repeat(q.shape[1] // k.shape[1], 1)
    y: Tensor = _CausalAttention.apply(
        q.reshape(heads, -1, size), k.reshape(heads, width, size), v.reshape(heads, width, size), hidden
    )
    return y.view_as(q)


class _CausalAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, hidden: Tensor) -> Tensor:
        scores = torch.baddbmm(hidden, q, k.mT, alpha=q.shape[2] ** -0.5)
        probabilities = torch.softmax(scores, dim=-1)
        ctx.save_for_backward(q, k, v, probabilities)
        return probabilities @ v

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, probabilities = ctx.saved_tensors
        of_scores = torch.ops.aten._softmax_backward_data(gradient @ v.mT, probabilities, -1, probabilities.dtype)
        of_scores.mul_(q.shape[2] ** -0.5)
        return of_scores @ k, of_scores.mT @ q, probabilities.mT @ gradient, None


def swiglu(gate_up: Tensor) -> Tensor:
    r"""The gated activation, from gate and up projection in one tensor.

        y = silu(g) ⊙ u,  (g | u) = gate_up

    Source: Shazeer 2020, arXiv:2002.05202, eq. 6.

    Args:
        gate_up: (N, 2F).

    Returns:
        (N, F).
    """
    y: Tensor = _Swiglu.apply(gate_up)
    return y


class _Swiglu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, dim=1)
        silu = torch.nn.functional.silu(gate)
        ctx.save_for_backward(gate_up, silu)
        return silu * up

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gate_up, silu = ctx.saved_tensors
        gate, up = gate_up.chunk(2, dim=1)
        both = torch.empty_like(gate_up)
        of_gate, of_up = both.chunk(2, dim=1)
        torch.mul(gradient, silu, out=of_up)
        torch.ops.aten.silu_backward.grad_input(gradient * up, gate, grad_input=of_gate)
        return both


def rotary(qkv: Tensor, cos: Tensor, sin: Tensor, heads: int, kv_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    r"""Rotary position embedding: queries and keys rotated by position, values unchanged, each in its own tensor.

        (x₁ | x₂) ↦ (x₁ cos − x₂ sin | x₂ cos + x₁ sin),  both halves of a head

    Source: Su et al. 2021, arXiv:2104.09864, eq. 34. Differs: pairs are (i, i + d/2), not neighbours, as in Llama's
    published weights.

    Args:
        qkv: (B, T, (heads + 2 kv_heads) · d): query, key and value heads side by side.
        cos: (B or 1, T, d) of the positions.
        sin: (B or 1, T, d).
        heads: number of query heads.
        kv_heads: number of key heads, and of value heads.

    Returns:
        q: (B, heads, T, d). k: (B, kv_heads, T, d). v: (B, kv_heads, T, d). All contiguous.
    """
    q, k, v = _Rotary.apply(qkv, cos, sin, heads, kv_heads)
    return q, k, v


class _Rotary(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor, heads: int, kv_heads: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(cos, sin)
        ctx.sizes = [heads, kv_heads, kv_heads]
        parts = qkv.unflatten(2, (sum(ctx.sizes), -1)).transpose(1, 2).split(ctx.sizes, dim=1)
        q, k = (_turn(part, cos, sin, torch.empty(part.shape, dtype=part.dtype)) for part in parts[:2])
        return q, k, parts[2].contiguous()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        cos, sin = ctx.saved_tensors
        first = gradients[0]
        of_qkv = first.new_empty(first.shape[0], first.shape[2], sum(ctx.sizes), first.shape[3])
        parts = of_qkv.transpose(1, 2).split(ctx.sizes, dim=1)
        for gradient, out in zip(gradients[:2], parts[:2], strict=True):
            _turn(gradient, cos, -sin, out)  # the transpose of a rotation turns back
        parts[2].copy_(gradients[2])
        return of_qkv.flatten(2), None, None, None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor) -> Tensor:
    """Rotate (B, heads, T, d) by angles (B or 1, T, d)."""
    cos, half = cos.unsqueeze(1), x.shape[-1] // 2
    sin = sin.unsqueeze(1)[..., :half]
    torch.mul(x, cos, out=out)
    out[..., :half].addcmul_(x[..., half:], sin, value=-1)
    out[..., half:].addcmul_(x[..., :half], sin)
    return out
