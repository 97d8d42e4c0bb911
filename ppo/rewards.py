"""From a score per response to a reward per token. Pure.

Shapes: B = batch, R = response tokens (right-padded). Masks: True on real response tokens, EOS included.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ppo.kl import ESTIMATORS

if TYPE_CHECKING:
    from ppo.config import RewardSection
    from ppo.rollout import Rollout


def rewards_of(rollout: "Rollout", section: "RewardSection", *, kl_coef: float) -> Tensor:
    """Reward of each token (B, R): the score on the last token, the KL penalty on every token.

    Args:
        rollout: scores (B,) and log-probabilities (B, R).
        section: clipping, penalties and whitening.
        kl_coef: weight of the KL penalty, in score units per nat; the adaptive coefficient moves it.
    """
    scores = rollout.scores - section.std_coef * rollout.score_std  # (B,)
    scores = effective_scores(
        section.sign * scores,
        rollout.ended,
        rollout.mask.sum(dim=1),
        missing_eos_score=section.missing_eos_score,
        score_clip=section.score_clip,
        length_penalty=section.length_penalty,
    )
    kl = ESTIMATORS[section.kl_estimator](rollout.old_logprobs, rollout.reference_logprobs)  # (B, R)
    penalties = kl_coef * kl if section.kl_in == "reward" else torch.zeros_like(kl)
    rewards = token_rewards(scores, penalties, rollout.mask)  # (B, R)
    return whiten(rewards, rollout.mask, keep_mean=True) if section.whiten else rewards


def effective_scores(
    scores: Tensor,
    ended: Tensor,
    lengths: Tensor,
    *,
    missing_eos_score: float | None,
    score_clip: float,
    length_penalty: float,
) -> Tensor:
    """Clipped score minus a length penalty; a fixed score if the response has no EOS.

        s = clip(score, ±score_clip) − length_penalty · length,
        or missing_eos_score if the response did not end

    Source: Huang et al. 2024 (N+ implementation details), arXiv:2403.17031, detail 'EOS trick': −1 for a missing EOS,
    on scores normalised to deviation 1. Length penalty: Singhal et al. 2023, arXiv:2310.03716, section 4.

    Args:
        scores: (B,) float, normalised scores.
        ended: (B,) bool, True if the response has an EOS.
        lengths: (B,) int, response tokens.
        missing_eos_score: replaces the score of a response without EOS; None keeps it.
        score_clip: largest magnitude; 0 clips nothing.
        length_penalty: score units per token.

    Returns:
        (B,) float.
    """
    assert scores.shape == ended.shape == lengths.shape
    clipped = scores.clamp(-score_clip, score_clip) if score_clip > 0 else scores
    penalised = clipped - length_penalty * lengths
    if missing_eos_score is None:
        return penalised
    return torch.where(ended, penalised, torch.full_like(penalised, missing_eos_score))


def token_rewards(scores: Tensor, penalties: Tensor, response_mask: Tensor) -> Tensor:
    """Reward of each token: minus the KL penalty, plus the score on the last real token (EOS if there is one).

        r_t = −penalty_t + 1[t = last]·score,   penalty_t = β · k1(t) by default

    Source: Ziegler et al. 2019, arXiv:1909.08593, eq. 2. Differs from TRL ≤ 0.29: the score is on the EOS token, not
    one slot after it.

    Args:
        scores: (B,) float, detached.
        penalties: (B, R) float, the weighted KL estimate of each token, in score units; padding positions are ignored.
        response_mask: (B, R) bool; each row is a non-empty prefix.

    Returns:
        (B, R) float, 0 on padding.
    """
    assert penalties.shape == response_mask.shape
    assert response_mask.dtype == torch.bool
    last = response_mask.long().sum(dim=1) - 1  # (B,)
    at_last = torch.arange(response_mask.shape[1], device=last.device) == last.unsqueeze(1)  # (B, R)
    return at_last * scores.unsqueeze(1) - torch.where(response_mask, penalties, 0.0)


def whiten(values: Tensor, mask: Tensor, *, keep_mean: bool) -> Tensor:
    """Scale to deviation 1 over the real tokens; advantages also lose their mean, rewards keep it.

        (x − μ) / √(σ² + 1e-8), biased variance, + μ if keep_mean

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
