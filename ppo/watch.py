"""Warnings while PPO runs: the most frequent failures, detected in the metrics, each with advice. Pure.

The thresholds are rules of thumb, from the failed runs that Huang et al. 2024 (arXiv:2403.17031) and Zheng et al. 2023
(arXiv:2307.04964) report.
"""

from collections.abc import Iterator, Mapping, Sequence

from workbench.evaluate.metrics import kl_limit

ENTROPY_LEAST = 0.3
"""Lowest share of the first iteration's entropy."""
LENGTH_MOST = 1.5
"""Largest ratio of lengths between the first iteration and now, in either direction."""
EOS_LEAST = 0.8
SAMPLING_GAP_MOST = 0.2
"""Nats between a token's log-probability in the engine and in the policy; bfloat16 rounding alone gives about 0.02."""
WINDOW = 3
"""A warning needs this many consecutive iterations."""
PATIENCE = 20
"""Iterations before a value model that is worse than a constant causes a warning."""

Metrics = Mapping[str, float]


def warnings(first: Metrics, recent: Sequence[Metrics], iteration: int) -> Iterator[tuple[str, str]]:
    """Warnings that the last iterations give reason for.

    Args:
        first: metrics of the first iteration.
        recent: metrics of the last iterations, newest last; fewer than WINDOW give no warning.
        iteration: the newest one's number.

    Yields: (kind, sentence with numbers and advice).
    """
    if len(recent) < WINDOW:
        return
    rows = recent[-WINDOW:]
    shared = [name for name in rows[-1] if all(name in row for row in rows)]
    least, most = ({name: pick(row[name] for row in rows) for name in shared} for pick in (min, max))
    limit = kl_limit(most["response/length"])
    if least["objective/kl"] > limit:
        yield (
            "kl",
            f"KL to the reference is {least['objective/kl']:.1f} nats per response (above {limit:.0f}), far from the "
            "answers that the reward model knows. Raise reward.kl_coef, set reward.kl_target, or lower train.lr.",
        )
    if most["objective/entropy"] < ENTROPY_LEAST * first["objective/entropy"]:
        yield (
            "entropy",
            f"entropy fell from {first['objective/entropy']:.2f} to {most['objective/entropy']:.2f} nats per token: "
            "the policy has collapsed to one answer. Raise reward.kl_coef or train.entropy_coef, or lower train.lr.",
        )
    if least["response/length"] > LENGTH_MOST * first["response/length"]:
        yield (
            "length",
            f"responses grew from {first['response/length']:.0f} to {least['response/length']:.0f} tokens: check that "
            "the reward model does not reward length (python -m workbench evaluate), or set reward.length_penalty.",
        )
    if most["response/length"] * LENGTH_MOST < first["response/length"]:
        yield (
            "length",
            f"responses shrank from {first['response/length']:.0f} to {most['response/length']:.0f} tokens: check "
            "what the reward model rewards (python -m workbench evaluate).",
        )
    if most["response/eos_rate"] < EOS_LEAST:
        yield (
            "eos",
            f"only {most['response/eos_rate']:.0%} of the responses end: raise rollout.max_new_tokens, or lower "
            "reward.missing_eos_score.",
        )
    if least.get("rollout/sampling_gap", 0.0) > SAMPLING_GAP_MOST:
        yield (
            "sampling",
            f"the engine's log-probabilities differ from the policy's by {least['rollout/sampling_gap']:.2f} nats "
            "per token: check that the vLLM server has the base of this run and --logprobs-mode processed_logprobs; "
            "rollout.importance_cap=2 corrects small differences.",
        )
    variance = most.get("value/explained_variance")
    if variance is not None and variance < 0 and iteration >= PATIENCE:
        yield (
            "value",
            f"the value model is worse than a constant after {iteration + 1} iterations (explained variance "
            f"{variance:.2f}): raise train.value_lr or train.value_only_iterations, or use train.advantage=rloo.",
        )
