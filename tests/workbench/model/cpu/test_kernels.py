"""Each part of a layer against its formula in plain torch, and its gradient against finite differences, in float64."""

import pytest
import torch
from torch.autograd import gradcheck

from tests.reference.tolerances import EXACT
from workbench.model.cpu.kernels import causal_attention, linear, merge_adapters, rms_norm, rotary, swiglu


def random(*shape, seed=0, grad=True):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_(grad)


def adapters():
    """Factors of layers with 4, 2 and 3 outputs on an input of 5; ranks 2, 0 (none) and 1."""
    return [
        (random(2, 5, seed=1), random(4, 2, seed=2), 0.5),
        (random(0, 5, grad=False), random(2, 0, grad=False), 0.0),
        (random(1, 5, seed=3), random(3, 1, seed=4), 2.0),
    ]


def plain_linear(x, weight, adapters):
    """The formula of LoRA, layer by layer."""
    parts = weight.split([len(b) for _, b, _ in adapters])
    return torch.cat([x @ part.T + s * (x @ a.T) @ b.T for part, (a, b, s) in zip(parts, adapters, strict=True)], dim=1)


def test_merging_by_hand():
    # One output: w = (1, 2), a = (3, 4), b = 5, s = 0.1: w + 0.1 · 5 · a = (1 + 1.5, 2 + 2).
    weight, a, b = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]]), torch.tensor([[5.0]])
    whole = merge_adapters(weight, [(a, b, 0.1)])
    torch.testing.assert_close(whole, torch.tensor([[2.5, 4.0]]))
    assert weight.tolist() == [[1.0, 2.0]]
    assert not merge_adapters(weight, [(a.requires_grad_(), b, 0.1)]).requires_grad


@pytest.mark.parametrize("with_residual", [False, True])
def test_linear_layers_with_adapters_and_their_gradients(with_residual):
    x, weight, loras = random(6, 5), random(9, 5, grad=False), adapters()
    residual = random(6, 9, seed=7) if with_residual else None
    y = linear(x, merge_adapters(weight, loras), loras, residual)
    expected = plain_linear(x, weight, loras) + (residual if with_residual else 0)
    torch.testing.assert_close(y, expected, **EXACT)
    leaves = [x, *(w for a, b, _ in loras for w in (a, b) if w.requires_grad), *([residual] if with_residual else [])]
    direction = random(6, 9, seed=8, grad=False)
    for mine, theirs in zip(
        torch.autograd.grad(y, leaves, direction), torch.autograd.grad(expected, leaves, direction), strict=True
    ):
        torch.testing.assert_close(mine, theirs, **EXACT)


def test_a_frozen_adapter_gets_no_gradient_and_passes_one_on():
    x, weight = random(3, 5), random(9, 5, grad=False)
    loras = [(a.detach(), b.detach(), s) for a, b, s in adapters()]
    whole = merge_adapters(weight, loras)
    (of_x,) = torch.autograd.grad(linear(x, whole, loras).sum(), x)
    torch.testing.assert_close(of_x, whole.sum(dim=0).expand(3, 5), **EXACT)
    assert not linear(x.detach(), whole, loras).requires_grad


def test_rms_norm():
    # By hand: (3, 4) has the mean square 12.5; with ε = 12.5 it is divided by 5.
    found = rms_norm(torch.tensor([[3.0, 4.0]]), torch.tensor([1.0, 10.0]), 12.5)
    torch.testing.assert_close(found, torch.tensor([[0.6, 8.0]]))
    x, weight = random(4, 6), random(6, grad=False)
    expected = torch.nn.functional.rms_norm(x, (6,), weight, 1e-2)
    torch.testing.assert_close(rms_norm(x, weight, 1e-2), expected, **EXACT)
    assert gradcheck(lambda x: rms_norm(x, weight, 1e-2), x)


def test_attention_by_hand():
    # One head of size 4, keys 0: the second token reads the mean of both values, the first its own.
    q, k, v = torch.ones(1, 1, 2, 4), torch.zeros(1, 1, 2, 4), torch.tensor([[[[1.0, 2, 3, 4], [3, 4, 5, 6]]]])
    torch.testing.assert_close(causal_attention(q, k, v), torch.tensor([[[[1.0, 2, 3, 4], [2, 3, 4, 5]]]]))


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_attention_is_torchs(kv_heads):
    q, k, v = random(2, 4, 5, 3), random(2, kv_heads, 5, 3, seed=1), random(2, kv_heads, 5, 3, seed=2)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    torch.testing.assert_close(causal_attention(q, k, v), expected, **EXACT)
    assert gradcheck(causal_attention, (q, k, v))


def test_swiglu():
    x = random(4, 6)
    gate, up = x[:, :3], x[:, 3:]
    torch.testing.assert_close(swiglu(x), gate / (1 + (-gate).exp()) * up, **EXACT)
    assert gradcheck(swiglu, x)


@pytest.mark.parametrize("rows_of_angles", [1, 2])
def test_rotary_embeddings_turn_queries_and_keys(rows_of_angles):
    heads, kv_heads, d = 4, 2, 6
    qkv, angles = random(2, 3, (heads + 2 * kv_heads) * d), random(rows_of_angles, 3, d // 2, grad=False)
    cos, sin = (torch.cat([f, f], dim=-1) for f in (angles.cos(), angles.sin()))
    found = rotary(qkv, cos, sin, heads, kv_heads)
    wide = qkv.view(2, 3, heads + 2 * kv_heads, d).transpose(1, 2)
    # By another route: a head's two halves are the real and the imaginary parts, and a position is a phase.
    phase = torch.polar(torch.ones_like(angles), angles).unsqueeze(1)
    turned = torch.complex(wide[..., : d // 2], wide[..., d // 2 :]) * phase
    turned = torch.cat([turned.real, turned.imag], dim=-1)
    expected = turned[:, :heads], turned[:, heads : heads + kv_heads], wide[:, heads + kv_heads :]
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, **EXACT)
        assert mine.is_contiguous()
    assert gradcheck(lambda x: rotary(x, cos, sin, heads, kv_heads), qkv)
