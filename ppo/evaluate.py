"""What PPO logs: metrics of a rollout, of held-out responses, and of an iteration's time and memory."""

import time
from typing import Any

import torch
from torch import Tensor

from ppo.advantages import Targets
from ppo.config import RolloutSection
from ppo.kl import kl_k1, kl_k3
from ppo.loss import explained_variance
from ppo.rollout import PromptSet, Rollout, collect
from ppo.sampler import Engine
from workbench.model.processes import Processes
from workbench.model.roles import Roles
from workbench.run.peak import peak_resident_bytes


def evaluate(
    roles: Roles, engine: Engine, prompts: PromptSet, section: RolloutSection, *, seed: int, processes: Processes
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Answer held-out prompts with the policy.

    Returns:
        metrics: `heldout/…`, means over responses. rows: for samples.jsonl, with each response's `score` and `kl`.
    """
    rollout = collect(roles, engine, prompts, section, seed=seed, processes=processes)
    kl = kl_k1(rollout.old_logprobs, rollout.reference_logprobs).sum(dim=1)  # (B,)
    rows = [
        {
            "prompt_id": record.id,
            "prompt": [message.model_dump() for message in record.prompt],
            "response": text,
            "ended": bool(ended),
            "ids": ids,
            "score": round(float(score), 4),
            "kl": round(float(nats), 4),
        }
        for record, text, ids, ended, score, nats in zip(
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
    if bool(rollout.score_std.any()):
        metrics["objective/score_spread"] = float(rollout.score_std.mean())
    if rollout.sampling_logprobs is not None:
        gap = (rollout.old_logprobs - rollout.sampling_logprobs)[rollout.mask]  # (n,)
        metrics["rollout/sampling_kl"] = float(
            kl_k3(rollout.sampling_logprobs, rollout.old_logprobs)[rollout.mask].mean()
        )
        metrics["rollout/sampling_gap"] = float(gap.abs().mean())
    if targets.value_targets is not None:
        metrics["value/explained_variance"] = explained_variance(rollout.values, targets.value_targets, rollout.mask)
    return metrics


class Clock:
    """Seconds and tokens of an iteration's stages, and the peak memory."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.last, self.stages = device, time.monotonic(), dict[str, float]()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def mark(self, stage: str, tokens: int) -> None:
        """End a stage that processed so many response tokens."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # kernels run asynchronously: wait for them before reading the clock
        now = time.monotonic()
        seconds, self.last = now - self.last, now
        self.stages |= {f"speed/{stage}_seconds": seconds, f"speed/{stage}_tokens_per_second": tokens / seconds}

    def metrics(self) -> dict[str, float]:
        """By metric name."""
        on_gpu = self.device.type == "cuda"
        peak = torch.cuda.max_memory_allocated(self.device) if on_gpu else peak_resident_bytes()
        return self.stages | {"speed/peak_gib": peak / 2**30}
