"""How far a written model agrees with the trained one, and the limits beyond which an export is refused. Pure maths.

N = tokens, V = vocabulary, D = hidden.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Agreement:
    """Agreement of next-token distributions, over all tokens of the held-out rows."""

    tokens: int
    kl: float
    """Mean of KL(trained ‖ written), nats per token."""
    top1: float
    """Share of tokens with the same most probable next token."""
    effect: float
    """Mean of KL(trained ‖ base), nats per token: how much the adapter does at all."""
    survival: float | None
    """Share of the adapter's effect that the written model has; 1 is right. None: the adapter does nothing."""


@dataclass(frozen=True)
class Limits:
    """Bounds of an export's agreement."""

    kl: float
    top1: float
    survival: float
    """Largest distance of `survival` from 1."""


LIMITS = {
    "float32": Limits(kl=1e-6, top1=0.995, survival=0.01),
    "f16": Limits(kl=1e-3, top1=0.99, survival=0.05),
    "bfloat16": Limits(kl=1e-2, top1=0.97, survival=0.1),
    "q8_0": Limits(kl=1e-2, top1=0.97, survival=0.1),
}
"""By how the weights are stored. A float32 file differs by the order of sums only, about 1e-8 nats."""
NO_EFFECT = 1e-9
"""Nats per token up to which an adapter counts as doing nothing: the rounding of float32."""


def agreement(trained: Tensor, base: Tensor, lm_head: Tensor, written: Iterable[Tensor]) -> Agreement:
    r"""Compare the written model's logits with the trained model's and the base's.

        kl       = mean_n Σ_v p_v (log p_v − log q_v)
        survival = Σ_n cov_p(log p − log b, log q − log b) / Σ_n var_p(log p − log b)

    with p the trained, q the written and b the base's distribution. The covariance under p ignores a constant in the
    logits; rounding errors, which do not point along the adapter's effect, average out of it.

    Args:
        trained: (N, D) states of the trained model.
        base: (N, D) states without the adapter.
        lm_head: (V, D).
        written: chunks (n, V) of the written model's logits, in the order of the tokens.
    """
    kl = effect = along = whole = 0.0
    same = start = 0
    for logits in written:
        rows = slice(start, start + len(logits))
        start += len(logits)
        log_p, log_b = (torch.log_softmax(states[rows].double() @ lm_head.double().T, -1) for states in (trained, base))
        log_q = torch.log_softmax(logits.double(), -1)
        p = log_p.exp()
        kl += float((p * (log_p - log_q)).sum())
        effect += float((p * (log_p - log_b)).sum())
        same += int((log_p.argmax(-1) == log_q.argmax(-1)).sum())
        ours, theirs = log_p - log_b, log_q - log_b
        ours = ours - (p * ours).sum(-1, keepdim=True)
        along += float((p * ours * theirs).sum())
        whole += float((p * ours * ours).sum())
    assert start == len(trained), "the written model has logits for every token"
    does_something = effect / start > NO_EFFECT
    return Agreement(start, kl / start, same / start, effect / start, along / whole if does_something else None)


def breaches(found: Agreement, limits: Limits) -> list[str]:
    """What is beyond the limits, in words; empty if the export is sound. A NaN is beyond every limit."""
    said = []
    if not found.kl <= limits.kl:
        said.append(f"KL {found.kl:.2e} nats per token, at most {limits.kl:g}")
    if not found.top1 >= limits.top1:
        said.append(f"the same top-1 token for {found.top1:.2%} of the tokens, at least {limits.top1:.1%}")
    if found.survival is not None and not abs(found.survival - 1) <= limits.survival:
        said.append(
            f"{found.survival:.1%} of the adapter's effect, {1 - limits.survival:.0%} to {1 + limits.survival:.0%}"
        )
    return said
