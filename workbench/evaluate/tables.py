"""The summary tables of a report: numbers as a person reads them. Pure; knows evaluations only."""

from collections.abc import Sequence
from dataclasses import dataclass

from workbench.evaluate.evaluation import PolicyEvaluation, RewardEvaluation
from workbench.evaluate.statistics import Estimate


@dataclass(frozen=True)
class Row:
    """One line of a summary table: a measure, how to read it, and a cell for each run."""

    name: str
    hint: str
    cells: list[tuple[str, str]]
    """(value, interval or empty) per run."""


def number(value: float | None, digits: int = 2) -> str:
    """A number with a true minus sign, or a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def duration(seconds: float | None) -> str:
    """Seconds as a person says them."""
    if seconds is None:
        return "–"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def policy_rows(found: Sequence[PolicyEvaluation]) -> list[Row]:
    """The summary of policies: a measure a line, a policy a column."""
    rows = [
        Row("Gold reward", "at most 1, higher is better", [_cell(p.gold) for p in found]),
        Row("Win rate", "over the opponent named below; 0.5 is even", [_wins(p) for p in found]),
        Row("… at equal length", "the same with length taken out", [_controlled(p) for p in found]),
        Row("Reward-model score", "what training optimised", [_cell(p.reward_model_score) for p in found]),
        Row("KL to reference", "nats per answer; above 10 is far", [_cell(p.kl, 1) for p in found]),
        Row("Perplexity", "on held-out demonstrations, lower fits better", [_cell(p.perplexity) for p in found]),
        Row("Length", "tokens per answer", [_cell(p.length, 1) for p in found]),
        Row("Ends by itself", "share of answers; at least 0.95 is healthy", [_cell(p.eos_rate) for p in found]),
    ]
    rows += [
        Row(f"Distinct-{n}", "share of different word n-grams", [(number(p.distinct.get(n)), "") for p in found])
        for n in ("1", "2", "3")
    ]
    rows.append(Row("Different answers", "share of all answers", [(number(p.unique_share), "") for p in found]))
    return rows


def reward_rows(found: Sequence[RewardEvaluation]) -> list[Row]:
    """The summary of reward models."""
    return [
        Row("Accuracy", "agrees with held-out labels", [_cell(r.accuracy) for r in found]),
        Row("Noise ceiling", "how often the truth agrees with them", [_cell(r.noise_ceiling) for r in found]),
        Row("Gold accuracy", "agrees with the truth itself", [_cell(r.gold_accuracy) for r in found]),
        Row(
            "Calibration error",
            "0 is honest; in brackets what chance alone would show",
            [(number(r.ece, 3), f"({number(r.ece_by_chance, 3)})") for r in found],
        ),
        Row("Brier score", "0 is perfect, 0.25 a coin", [(number(r.brier, 3), "") for r in found]),
        Row(
            "Length and score",
            "correlation between answers to one prompt; 0 is none",
            [(number(r.length_correlation_within), "") for r in found],
        ),
        Row(
            "Labels prefer the longer",
            "share of the pairs; 0.5 is no bias",
            [(number(r.label_length_bias), "") for r in found],
        ),
        Row("Longer wins", "accuracy of preferring the longer answer", [_cell(r.longer_wins) for r in found]),
        *(
            Row(f"Accuracy: {name}", "within this category", [_cell(r.by_category.get(name)) for r in found])
            for name in dict.fromkeys(name for r in found for name in r.by_category)
        ),
        Row(
            "Pairs",
            "held out, and of how many prompts",
            [(str(r.accuracy.count), f"{r.accuracy.prompts} prompts") for r in found],
        ),
    ]


def _cell(estimate: Estimate | None, digits: int = 2) -> tuple[str, str]:
    if estimate is None:
        return "–", ""
    return number(estimate.mean, digits), f"{number(estimate.low, digits)} to {number(estimate.high, digits)}"


def _wins(policy: PolicyEvaluation) -> tuple[str, str]:
    wins = policy.win_rate
    return ("–", "") if wins is None else (number(wins.mean), f"{number(wins.low)} to {number(wins.high)}")


def _controlled(policy: PolicyEvaluation) -> tuple[str, str]:
    return (number(policy.win_rate.length_controlled) if policy.win_rate else "–"), ""
