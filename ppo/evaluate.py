"""Held-out evaluation during PPO: the same prompts answered each time, with what the roles say of the answers."""

from typing import Any

from torch import Tensor

from ppo.advantages import Targets
from ppo.kl import kl_k1, kl_k3
from ppo.loss import explained_variance
from ppo.rollout import PromptSet, Rollout, collect
from ppo.sampler import Engine
from workbench.model.processes import Processes
from workbench.model.roles import Roles


def evaluate(
    roles: Roles,
    engine: Engine,
    prompts: PromptSet,
    *,
    role: str,
    max_new_tokens: int,
    temperature: float,
    sample_batch_size: int,
    micro_batch_size: int,
    seed: int,
    processes: Processes,
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Answer held-out prompts with the policy, or with its moving average.

    Returns:
        metrics: `heldout/…` means over responses. rows: for samples.jsonl, with `score` and `kl` of each response.
    """
    rollout = collect(
        roles,
        engine,
        prompts,
        role=role,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        sample_batch_size=sample_batch_size,
        micro_batch_size=micro_batch_size,
        seed=seed,
        processes=processes,
    )
    kl = kl_k1(rollout.old_logprobs, rollout.reference_logprobs).sum(dim=1)
    rows = [
        {
            "prompt_id": record.id,
            "prompt": [message.model_dump() for message in record.prompt],
            "response": text,
            "ended": bool(done),
            "ids": ids,
            "score": round(float(score), 4),
            "kl": round(float(nats), 4),
        }
        for record, text, ids, done, score, nats in zip(
            prompts.records, rollout.texts(roles), rollout.ids(), rollout.ended, rollout.scores, kl, strict=True
        )
    ]
    metrics = {
        "heldout/score": float(rollout.scores.mean()),
        "heldout/kl": float(rollout.kl.sum(dim=1).mean()),
        "heldout/length": float(rollout.mask.sum(dim=1).float().mean()),
        "heldout/eos_rate": float(rollout.ended.float().mean()),
    }
    return metrics, rows


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
