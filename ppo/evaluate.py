"""Held-out evaluation during PPO: the same prompts answered each time, with what the roles say of the answers."""

from typing import Any

from ppo.data import PromptSet
from ppo.engines import Engine
from ppo.kl import kl_k1
from ppo.rollout import collect
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
