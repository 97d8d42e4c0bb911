"""The losses of PPO, as sums over real tokens divided by a given count. Pure.

Shapes: b = rows of a micro-batch, R = response tokens. `tokens` is the number of real tokens of the whole minibatch, so
accumulated micro-batches of different lengths equal one large batch.
"""

import torch
from torch import Tensor

from ppo.kl import ESTIMATORS


def policy_loss(
    new_logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor, *, clip_range: float, tokens: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """PPO's clipped surrogate.

        ρ = exp(log π_new − log π_old),  L = Σ max(−A ρ, −A clip(ρ, 1 ± clip_range)) / tokens

    Source: Schulman et al. 2017, arXiv:1707.06347, eq. 7.

    Args:
        new_logprobs: (b, R) float, with gradient.
        old_logprobs: (b, R) float, from the same forward pass before the update.
        advantages: (b, R) float, detached.
        mask: (b, R) bool, True on real tokens.
        clip_range: ε.
        tokens: real tokens of the minibatch.

    Returns:
        loss: scalar. stats: sums over real tokens, detached: `approx_kl` (½(Δ log p)²), `clip_fraction`, `ratio`.
    """
    assert new_logprobs.shape == old_logprobs.shape == advantages.shape == mask.shape
    difference = (new_logprobs - old_logprobs) * mask  # (b, R); 0 on padding, so its ratio is 1 and stays finite
    ratio = difference.exp()
    unclipped = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - clip_range, 1 + clip_range)
    # The larger of the two losses: moving past the range gains nothing, but moving back from a bad step still does.
    loss = (torch.maximum(unclipped, clipped) * mask).sum() / tokens
    with torch.no_grad():
        stats = {
            "approx_kl": (0.5 * difference**2).sum(),
            "clip_fraction": ((clipped > unclipped) & mask).sum().float(),
            "ratio": (ratio * mask).sum(),
        }
    return loss, stats


def truncated_importance_weights(
    old_logprobs: Tensor, sampling_logprobs: Tensor, mask: Tensor, *, cap: float
) -> Tensor:
    """Truncated importance weights of tokens that were sampled from a distribution other than the policy's.

        w = min(exp(log π_old − log μ), cap)

    μ is the distribution of an engine with other numerics. Without truncation, w makes the gradient under μ unbiased;
    truncation bounds its variance.

    Source: Ionides 2008, "Truncated importance sampling", eq. 3; on a token's ratio as in Espeholt et al. 2018,
    arXiv:1802.01561, eq. 1 (ρ̄), and Yao et al. 2025, "Your efficient RL framework secretly brings you off-policy RL
    training".

    Args:
        old_logprobs: (B, R) float, of the policy before the update.
        sampling_logprobs: (B, R) float, log μ of the sampled tokens.
        mask: (B, R) bool.
        cap: C ≥ 1.

    Returns:
        weights: (B, R) float, 0 on padding.
    """
    return ((old_logprobs - sampling_logprobs).exp().clamp(max=cap) * mask).detach()


def value_loss(
    new_values: Tensor, old_values: Tensor, value_targets: Tensor, mask: Tensor, *, value_clip_range: float, tokens: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Clipped squared error of the value model.

        L = ½ Σ max((V − R)², (clip(V, V_old ± value_clip_range) − R)²) / tokens

    Source: Schulman et al. 2017 (code); Huang et al. 2024, arXiv:2403.17031, detail 'value function loss clipping'.

    Args:
        new_values: (b, R) float, with gradient.
        old_values: (b, R) float, before the update.
        value_targets: (b, R) float, A + V before whitening.
        mask: (b, R) bool.
        value_clip_range: in units of the scores.
        tokens: real tokens of the minibatch.

    Returns:
        loss: scalar. stats: sums over real tokens, detached: `clip_fraction`.
    """
    assert new_values.shape == old_values.shape == value_targets.shape == mask.shape
    limited = old_values + (new_values - old_values).clamp(-value_clip_range, value_clip_range)
    error, limited_error = (new_values - value_targets) ** 2, (limited - value_targets) ** 2
    loss = 0.5 * (torch.maximum(error, limited_error) * mask).sum() / tokens
    with torch.no_grad():
        stats = {"clip_fraction": ((limited_error > error) & mask).sum().float()}
    return loss, stats


def kl_loss(new_logprobs: Tensor, reference_logprobs: Tensor, mask: Tensor, *, estimator: str, tokens: int) -> Tensor:
    """KL to the reference as a term of the loss instead of a penalty in the reward.

        L = Σ k(log π_new, log ρ) / tokens

    Source: Shao et al. 2024, arXiv:2402.03300, eq. 4 (k3); k2, whose gradient is that of KL(π ‖ ρ): see `ppo.kl`.

    Args:
        new_logprobs: (b, R) float, with gradient.
        reference_logprobs: (b, R) float.
        mask: (b, R) bool.
        estimator: `k2` or `k3`.
        tokens: real tokens of the minibatch.

    Returns:
        scalar.
    """
    assert estimator != "k1", "the gradient of k1 is 0 on average"
    return (ESTIMATORS[estimator](new_logprobs, reference_logprobs) * mask).sum() / tokens


def explained_variance(values: Tensor, value_targets: Tensor, mask: Tensor) -> float:
    """Share of the targets' variance that the values explain: 1 − Var(R − V) / Var(R); NaN for constant targets.

    Args:
        values: (B, R) float. value_targets: (B, R) float. mask: (B, R) bool.
    """
    targets, errors = value_targets[mask], (value_targets - values)[mask]
    variance = targets.var(unbiased=False)
    return float("nan") if variance == 0 else float(1 - errors.var(unbiased=False) / variance)
