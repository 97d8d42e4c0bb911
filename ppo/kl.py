"""Estimates of KL(policy ‖ reference) from sampled tokens, and the controller of their weight. Pure.

With r = ρ/π at a token sampled from π:   k1 = −log r,   k2 = ½ (log r)²,   k3 = (r − 1) − log r

In the reward, k1 is the default: the gradient that a reward drops has mean 0 for k1, but not for k3. As a loss, k2 is
the one to use: its gradient, (log π − log ρ) ∇log π, is that of the KL itself. k1's gradient is 0 on average, and k3's
is that of KL(reference ‖ policy).

Source: Schulman 2020, "Approximating KL divergence", http://joschu.net/blog/kl-approx.html.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def kl_k1(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """log π − log ρ of each token, in nats; any shape. Unbiased, may be negative."""
    return logprobs - reference_logprobs


def kl_k2(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """½ (log π − log ρ)² of each token, in nats; any shape. Biased, never negative."""
    return 0.5 * (logprobs - reference_logprobs) ** 2


def kl_k3(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """(ρ/π − 1) − log(ρ/π) of each token, in nats; any shape. Unbiased, never negative."""
    log_ratio = reference_logprobs - logprobs
    return torch.expm1(log_ratio) - log_ratio


ESTIMATORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"k1": kl_k1, "k2": kl_k2, "k3": kl_k3}
"""(logprobs, reference_logprobs) → nats per token."""


def adapted_kl_coef(kl_coef: float, kl: float, *, target: float, horizon: float, episodes: int) -> float:
    """The next KL coefficient of a controller that keeps the KL near a target.

        β ← β · (1 + clip(kl/target − 1, ±0.2) · episodes/horizon)

    Source: Ziegler et al. 2019, arXiv:1909.08593, section 2.2.

    Args:
        kl_coef: β now.
        kl: mean KL of the last rollout, nats per response.
        target: desired KL, nats per response.
        horizon: episodes in which a persistent error of 20 % or more changes β by 20 %.
        episodes: responses in the last rollout.
    """
    error = min(max(kl / target - 1, -0.2), 0.2)
    return kl_coef * (1 + error * episodes / horizon)
