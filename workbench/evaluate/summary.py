"""The main numbers of evaluations: a dictionary for a pipeline of runs, and the lines that `evaluate` prints."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.evaluate.classification import ClassifierEvaluation
from workbench.evaluate.evaluation import (
    Evaluation,
    PolicyEvaluation,
    RewardEvaluation,
    evaluate_command,
    read_evaluation,
)
from workbench.evaluate.statistics import Estimate
from workbench.evaluate.tables import number
from workbench.run.errors import WorkbenchError
from workbench.run.lineage import package_versions


def build_summary(
    run_paths: Mapping[str, Path], seconds: Mapping[str, float], peak_rss_gib: float, seed: int
) -> dict[str, Any]:
    """The numbers of each phase, from its evaluation.

    Args:
        run_paths: phase (`sft`, `reward`, `ppo`, `dpo` …) → run folder.
        seconds: step → wall-clock seconds.
        peak_rss_gib: largest resident memory of any process, GiB.
        seed: of the pipeline.
    Raises:
        WorkbenchError: a run is missing or was not evaluated.
    """
    return {
        "phases": {phase: _phase(read_evaluation(path)) for phase, path in run_paths.items()},
        "seconds": dict(seconds),
        "peak_rss_gib": peak_rss_gib,
        "seed": seed,
        "versions": package_versions(),
    }


def _phase(evaluation: Evaluation) -> dict[str, Any]:
    if evaluation.policy is not None:
        return policy_summary(evaluation.policy)
    if evaluation.reward_model is not None:
        return reward_summary(evaluation.reward_model)
    raise WorkbenchError(
        evaluation.run,
        "its evaluation holds neither a policy nor a reward model",
        remedy=evaluate_command(Path(evaluation.run)),
    )


def policy_summary(policy: PolicyEvaluation) -> dict[str, Any]:
    """The main numbers of a policy; None for what was not measured."""
    wins = policy.win_rate
    return {
        "gold_mean": _mean(policy.gold),
        "gold_ci": _interval(policy.gold),
        "gold_parts": {name: part.mean for name, part in policy.gold_parts.items()},
        "reward_model_score": _mean(policy.reward_model_score),
        "perplexity": _mean(policy.perplexity),
        "kl": _mean(policy.kl),
        "kl_ci": _interval(policy.kl),
        "win_rate": None if wins is None else wins.mean,
        "win_rate_ci": None if wins is None else [wins.low, wins.high],
        "win_rate_length_controlled": None if wins is None else wins.length_controlled,
        "opponent": policy.opponent,
        "judge": policy.judge,
        "length_mean": policy.length.mean,
        "eos_rate": policy.eos_rate.mean,
        "distinct_1": policy.distinct.get("1"),
        "distinct_2": policy.distinct.get("2"),
        "distinct_3": policy.distinct.get("3"),
        "unique_share": policy.unique_share,
        "answers": len(policy.answers),
        "prompts": policy.length.prompts,
    }


def reward_summary(reward: RewardEvaluation) -> dict[str, Any]:
    """The main numbers of a reward model; None for what was not measured."""
    return {
        "accuracy": reward.accuracy.mean,
        "accuracy_ci": _interval(reward.accuracy),
        "gold_accuracy": _mean(reward.gold_accuracy),
        "gold_accuracy_ci": _interval(reward.gold_accuracy),
        "noise_ceiling": _mean(reward.noise_ceiling),
        "ece": reward.ece,
        "ece_by_chance": reward.ece_by_chance,
        "brier": reward.brier,
        "longer_wins": _mean(reward.longer_wins),
        "by_category": {
            name: {"accuracy": estimate.mean, "accuracy_ci": _interval(estimate), "pairs": estimate.count}
            for name, estimate in reward.by_category.items()
        },
        "length_correlation": reward.length_correlation,
        "length_correlation_within": reward.length_correlation_within,
        "pairs": reward.accuracy.count,
        "prompts": reward.accuracy.prompts,
    }


def parts_moved(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """Which parts of the gold reward moved by .01 or more, the largest change first; empty if none did."""
    changes = {name: after[name] - before[name] for name in before if name in after}
    ordered = sorted((name for name in changes if abs(changes[name]) >= 0.01), key=lambda name: -abs(changes[name]))
    return ", ".join(f"{name} {number(before[name])} → {number(after[name])}" for name in ordered)


def result_lines(evaluation: Evaluation) -> list[str]:
    """What `evaluate` prints about a run: its main numbers, then warnings and details."""
    if evaluation.reward_model is not None:
        numbers = reward_summary(evaluation.reward_model)
        names: tuple[str, ...] = ("accuracy", "longer_wins", "gold_accuracy", "noise_ceiling", "ece")
        details = _reward_details(evaluation.reward_model)
    else:
        assert evaluation.policy is not None
        numbers = policy_summary(evaluation.policy)
        names = ("gold_mean", "perplexity", "reward_model_score", "kl", "win_rate", "length_mean", "eos_rate")
        details = _policy_details(evaluation.policy, evaluation.sources["max_new_tokens"])
    shown = "  ".join(f"{name} {numbers[name]:.3f}" for name in names if numbers.get(name) is not None)
    return [f"{evaluation.run}: {shown}", *details]


def _policy_details(policy: PolicyEvaluation, limit: str) -> list[str]:
    """What was forgotten, and a warning if most answers were cut: they say little about one that ends them later."""
    lines = []
    if policy.forgetting is not None:
        before, after = policy.forgetting.before, policy.forgetting.after
        change = f"{before:.3f} → {after:.3f} nats per token ({after - before:+.3f})"
        lines.append(f"  loss on the start run's validation set: {change}")
    cut = 1 - policy.eos_rate.mean
    if cut > 0.5:
        more = f"  warning: {cut:.0%} of the answers were cut at {limit} tokens"
        lines.append(f"{more}; --max-new-tokens N gives them more room")
    return lines


def _reward_details(reward: RewardEvaluation) -> list[str]:
    """A line per category of the pairs, and one about the pairs that the run leaves out as too long."""

    def accuracy(one: Estimate) -> str:
        return f"accuracy {one.mean:.3f} ({one.low:.3f} to {one.high:.3f}, {one.count} pairs)"

    lines = [f"  {name}: {accuracy(one)}" for name, one in reward.by_category.items()]
    if reward.longer_pairs:
        shown = f": {accuracy(reward.longer_accuracy)}" if reward.longer_accuracy else ""
        lines.append(
            f"  longer than data.max_length={reward.max_length}, not included above: {reward.longer_pairs} pairs{shown}"
        )
    return lines


def classifier_lines(found: ClassifierEvaluation) -> list[str]:
    """The table of methods that training prints, and the verdict."""
    head = f"  {'method':<22}{'accuracy':>9}{'precision':>10}{'recall':>8}{'macro F1':>10}  {'95% CI':<14}{'ECE':>6}"
    lines = [f"held-out texts: {found.texts:,} in {found.groups:,} groups", head]
    for name, scores in found.methods.items():
        f1 = scores.macro_f1
        lines.append(
            f"  {name:<22}{scores.accuracy.mean:>9.3f}{scores.macro_precision.mean:>10.3f}"
            f"{scores.macro_recall.mean:>8.3f}{f1.mean:>10.3f}  {f1.low:.3f} to {f1.high:.3f}{scores.ece:>6.3f}"
        )
    return [*lines, found.verdict()]


def _mean(estimate: Estimate | None) -> float | None:
    return None if estimate is None else estimate.mean


def _interval(estimate: Estimate | None) -> list[float] | None:
    return None if estimate is None else [estimate.low, estimate.high]
