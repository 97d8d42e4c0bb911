"""From a rollout to what the update learns from: scores → rewards → advantages and value targets, with the metrics."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ppo.advantages import gae, grpo, rloo
from ppo.kl import ESTIMATORS, kl_k1, kl_k3
from ppo.loss import explained_variance, truncated_importance_weights
from ppo.rewards import Moments, effective_scores, token_rewards, whiten
from ppo.rollout import Rollout


@dataclass(frozen=True)
class Targets:
    """What the losses compare against, (B, R) float each, 0 on padding."""

    advantages: Tensor
    value_targets: Tensor | None
    """None without a value model."""


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


def rewards_of(rollout: Rollout, rule: RewardRule, *, kl_coef: float, scale: Moments | None) -> Tensor:
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


def targets_of(
    rollout: Rollout,
    rewards: Tensor,
    *,
    method: str,
    gamma: float,
    gae_lambda: float,
    responses_per_prompt: int,
    importance_cap: float = 0.0,
) -> Targets:
    """Advantages, and value targets where there is a value model.

    Args:
        rollout: with values.
        rewards: (B, R).
        method: gae, rloo or grpo.
        gamma: discount (gae). gae_lambda: bias/variance trade-off (gae).
        responses_per_prompt: consecutive responses to one prompt (rloo, grpo).
        importance_cap: of truncated importance weights on the advantages, where the engine told its probabilities;
            0: none. Whitened first: the weights correct the gradient, not the advantages' scale.
    """
    value_targets = None
    if method == "gae":
        advantages, value_targets = gae(rewards, rollout.values, rollout.mask, gamma=gamma, gae_lambda=gae_lambda)
        advantages = whiten(advantages, rollout.mask, keep_mean=False)
    else:
        baseline = rloo if method == "rloo" else grpo
        advantages = baseline(rewards, rollout.mask, responses_per_prompt=responses_per_prompt)
    if importance_cap > 0 and rollout.sampling_logprobs is not None:
        advantages = advantages * truncated_importance_weights(
            rollout.old_logprobs, rollout.sampling_logprobs, rollout.mask, cap=importance_cap
        )
    return Targets(advantages, value_targets)


def kl_per_response(rollout: Rollout) -> float:
    """Mean over responses of the k1 estimate, nats."""
    return float(kl_k1(rollout.old_logprobs, rollout.reference_logprobs).sum(dim=1).mean())


def rollout_metrics(rollout: Rollout, rewards: Tensor, targets: Targets, *, kl_coef: float) -> dict[str, float]:
    """The `objective/`, `response/` and `value/` metrics of a rollout: means over responses, or over real tokens."""
    metrics = {
        "objective/score": float(rollout.scores.mean()),
        "objective/score_std": float(rollout.scores.std()),
        "objective/kl": kl_per_response(rollout),
        "objective/kl_exact": float(rollout.kl.sum(dim=1).mean()),
        "objective/reward": float(rewards.sum(dim=1).mean()),
        "objective/entropy": float(rollout.entropy.sum() / rollout.tokens),
        "objective/kl_coef": kl_coef,
        "response/length": float(rollout.mask.sum(dim=1).float().mean()),
        "response/eos_rate": float(rollout.ended.float().mean()),
    }
    if bool(rollout.score_spread.any()):
        metrics["objective/score_spread"] = float(rollout.score_spread.mean())
    if rollout.sampling_logprobs is not None:
        gap = (rollout.old_logprobs - rollout.sampling_logprobs)[rollout.mask]
        metrics["rollout/sampling_kl"] = float(
            kl_k3(rollout.sampling_logprobs, rollout.old_logprobs)[rollout.mask].mean()
        )
        metrics["rollout/sampling_gap"] = float(gap.abs().mean())
    if targets.value_targets is not None:
        metrics["value/explained_variance"] = explained_variance(rollout.values, targets.value_targets, rollout.mask)
    return metrics
