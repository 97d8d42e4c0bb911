"""From a score per response to a reward per token. Pure.

Shapes: B = batch, R = response tokens (right-padded). Masks: True on real response tokens, EOS included.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ppo.kl import ESTIMATORS

if TYPE_CHECKING:
    from ppo.rollout import Rollout


@dataclass(frozen=True)
class RewardRule:
    """How scores become rewards; see `ppo.config.RewardSection` for each."""

    kl_in: str
    kl_estimator: str
    missing_eos_score: float | None
    score_clip: float
    length_penalty: float
    free_length: int
    spread_coef: float
    sign: int
    whiten: bool


def rewards_of(rollout: "Rollout", rule: RewardRule, *, kl_coef: float, scale: "Moments | None") -> Tensor:
    """Reward of each token (B, R).

    Args:
        rollout: with scores and log-probabilities.
        rule: what is done to them.
        kl_coef: weight of the KL penalty, in score units per nat.
        scale: of the scores so far, where they are divided by their running deviation.
    """
    scores = rollout.scores - rule.spread_coef * rollout.score_spread
    if scale is not None:
        scores = scores / scale.std
    given = effective_scores(
        rule.sign * scores,
        rollout.ended,
        rollout.mask.sum(dim=1),
        missing_eos_score=rule.missing_eos_score,
        score_clip=rule.score_clip,
        length_penalty=rule.length_penalty,
        free_length=rule.free_length,
    )
    estimate = ESTIMATORS[rule.kl_estimator](rollout.old_logprobs, rollout.reference_logprobs)
    penalties = kl_coef * estimate if rule.kl_in == "reward" else torch.zeros_like(estimate)
    rewards = token_rewards(given, penalties, rollout.mask)
    return whiten(rewards, rollout.mask, keep_mean=True) if rule.whiten else rewards


def effective_scores(
    scores: Tensor,
    ended: Tensor,
    lengths: Tensor,
    *,
    missing_eos_score: float | None,
    score_clip: float,
    length_penalty: float = 0.0,
    free_length: int = 0,
) -> Tensor:
    """What PPO is given for each response: the clipped score less a price of its length, or a fixed score without EOS.

        s = clip(score, ±score_clip) − length_penalty · max(0, length − free_length),
        or missing_eos_score where the response did not end

    Source: Huang et al. 2024 (N+ implementation details), arXiv:2403.17031, detail 'EOS trick': −1 for a missing EOS,
    on scores normalised to deviation 1. The price per token: Singhal et al. 2023, arXiv:2310.03716, section 4.

    Args:
        scores: (B,) float, normalised scores.
        ended: (B,) bool, True where the response has an EOS.
        lengths: (B,) int, response tokens.
        missing_eos_score: replaces the score of a response without EOS; None leaves it.
        score_clip: largest magnitude; 0 clips nothing.
        length_penalty: price of a token beyond the free ones, in score units.
        free_length: tokens that cost nothing.

    Returns:
        (B,) float.
    """
    assert scores.shape == ended.shape == lengths.shape
    clipped = scores.clamp(-score_clip, score_clip) if score_clip > 0 else scores
    priced = clipped - length_penalty * (lengths - free_length).clamp(min=0)
    if missing_eos_score is None:
        return priced
    return torch.where(ended, priced, torch.full_like(priced, missing_eos_score))


@dataclass(frozen=True)
class Moments:
    """Running mean and variance of scores, merged batch by batch.

    Source: Chan, Golub & LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample variances".
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of squared distances from the mean."""

    @property
    def std(self) -> float:
        """Standard deviation (biased), or 1 before two different scores were seen."""
        return math.sqrt(self.squares / self.count) if self.squares > 0 else 1.0

    def merged(self, scores: Tensor) -> "Moments":
        """With another batch of scores (B,)."""
        values = scores.double()
        mine, theirs = self.count, values.numel()
        distance = float(values.mean()) - self.mean
        total = mine + theirs
        return Moments(
            total,
            self.mean + distance * theirs / total,
            self.squares + float(((values - values.mean()) ** 2).sum()) + distance**2 * mine * theirs / total,
        )


def token_rewards(scores: Tensor, penalties: Tensor, response_mask: Tensor) -> Tensor:
    """Reward of each token: the KL penalty, and the score on the last real token (EOS where there is one).

        r_t = −penalty_t + 1[t = last]·score,   penalty_t = β · k1(t) by default

    Source: Ziegler et al. 2019, arXiv:1909.08593, eq. 2. Differs from TRL ≤ 0.29: the score is on the EOS token, not
    one slot after it.

    Args:
        scores: (B,) float, detached.
        penalties: (B, R) float, the weighted KL estimate of each token, in score units; whatever on padding.
        response_mask: (B, R) bool; each row is a non-empty prefix.

    Returns:
        (B, R) float, 0 on padding.
    """
    assert penalties.shape == response_mask.shape
    assert response_mask.dtype == torch.bool
    last = response_mask.long().sum(dim=1) - 1
    at_last = torch.arange(response_mask.shape[1], device=last.device) == last.unsqueeze(1)
    return at_last * scores.unsqueeze(1) - torch.where(response_mask, penalties, 0.0)


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
