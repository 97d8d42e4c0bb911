"""From a score per response to a reward per token. Pure.

Shapes: B = batch, R = response tokens (right-padded). Masks: True on real response tokens, EOS included.
"""

import torch
from torch import Tensor


def effective_scores(scores: Tensor, ended: Tensor, *, missing_eos_score: float | None, score_clip: float) -> Tensor:
    """What PPO is given for each response: the clipped score, or a fixed score where the response has no end.

        s = clip(score, ±score_clip), or missing_eos_score where the response did not end

    Source: Huang et al. 2024 (N+ implementation details), arXiv:2403.17031, detail 'EOS trick': −1 for a missing EOS,
    on scores normalised to deviation 1.

    Args:
        scores: (B,) float, normalised scores.
        ended: (B,) bool, True where the response has an EOS.
        missing_eos_score: replaces the score of a response without EOS; None leaves it.
        score_clip: largest magnitude; 0 clips nothing.

    Returns:
        (B,) float.
    """
    assert scores.shape == ended.shape
    clipped = scores.clamp(-score_clip, score_clip) if score_clip > 0 else scores
    if missing_eos_score is None:
        return clipped
    return torch.where(ended, clipped, torch.full_like(clipped, missing_eos_score))


def kl_k1(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """The k1 estimate of KL(policy ‖ reference) of each sampled token: log π − log ρ, in nats; any shape.

    Source: Schulman 2020, "Approximating KL divergence", estimator k1. Its dropped gradient has mean 0, which is why
    it, not k3, goes into the reward.
    """
    return logprobs - reference_logprobs


def token_rewards(
    scores: Tensor, logprobs: Tensor, reference_logprobs: Tensor, response_mask: Tensor, *, kl_coef: float
) -> Tensor:
    """Reward of each token: the KL penalty, and the score on the last real token (EOS where there is one).

        r_t = −kl_coef · (log π_old(t) − log ρ(t)) + 1[t = last]·score

    Source: Ziegler et al. 2019, arXiv:1909.08593, eq. 2. Differs from TRL ≤ 0.29: the score is on the EOS token, not
    one slot after it.

    Args:
        scores: (B,) float, detached.
        logprobs: (B, R) float, of the policy that sampled, detached.
        reference_logprobs: (B, R) float.
        response_mask: (B, R) bool; each row is a non-empty prefix.
        kl_coef: weight of the penalty, in score units per nat.

    Returns:
        (B, R) float, 0 on padding.
    """
    assert logprobs.shape == reference_logprobs.shape == response_mask.shape
    assert response_mask.dtype == torch.bool
    rewards = -kl_coef * kl_k1(logprobs, reference_logprobs) * response_mask
    last = response_mask.long().sum(dim=1) - 1
    at_last = torch.arange(response_mask.shape[1], device=last.device) == last.unsqueeze(1)
    return rewards + at_last * scores.unsqueeze(1)


def whiten(values: Tensor, mask: Tensor, *, keep_mean: bool) -> Tensor:
    """Scale to deviation 1 over the real tokens; advantages also lose their mean, rewards keep it.

        (x − μ) / √(σ² + 1e-8), biased variance, + μ where keep_mean

    Source: Huang et al. 2024, arXiv:2403.17031, detail 'reward and advantage whitening'.

    Args:
        values: (B, R) float.
        mask: (B, R) bool.
        keep_mean: True for rewards, False for advantages.

    Returns:
        (B, R) float, 0 on padding.
    """
    assert values.shape == mask.shape
    real = values[mask]
    mean, variance = real.mean(), real.var(unbiased=False)
    whitened = (values - mean) * torch.rsqrt(variance + 1e-8)
    if keep_mean:
        whitened = whitened + mean
    return whitened * mask


def adapted_kl_coef(kl_coef: float, kl: float, *, target: float, horizon: float, episodes: int) -> float:
    """The next KL coefficient of a controller that holds the KL near a target.

        β ← β · (1 + clip(kl/target − 1, ±0.2) · episodes/horizon)

    Source: Ziegler et al. 2019, arXiv:1909.08593, section 2.2.

    Args:
        kl_coef: β now.
        kl: mean KL of the last rollout, nats per response.
        target: wished KL, nats per response.
        horizon: episodes over which a persistent error of 20 % changes β by 20 %.
        episodes: responses in the last rollout.
    """
    error = min(max(kl / target - 1, -0.2), 0.2)
    return kl_coef * (1 + error * episodes / horizon)
