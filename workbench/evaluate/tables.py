"""The summary tables of a report. Pure: knows evaluations only."""

from collections.abc import Sequence
from dataclasses import dataclass

from workbench.evaluate.evaluation import PolicyEvaluation, RewardEvaluation
from workbench.evaluate.statistics import Estimate


@dataclass(frozen=True)
class Row:
    """One row of a summary table: a metric, how to read it, and a cell per run."""

    name: str
    hint: str
    cells: list[tuple[str, str]]
    """(value, interval or empty) per run."""


def number(value: float | None, digits: int = 2) -> str:
    """A number with a typographic minus sign; a dash for None."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def policy_rows(found: Sequence[PolicyEvaluation]) -> list[Row]:
    """The summary of policies: one row per metric, one column per policy."""
    rows = [
        Row("Gold reward", "at most 1, higher is better", [_cell(p.gold) for p in found]),
        Row("Win rate", "against the opponent named below; 0.5 is even", [_wins(p) for p in found]),
        Row("… at equal length", "length-controlled win rate", [_controlled(p) for p in found]),
        Row("Reward-model score", "mean score; what training optimised", [_cell(p.reward_model_score) for p in found]),
        Row("KL to reference", "nats per answer; above 10 is a warning sign", [_cell(p.kl, 1) for p in found]),
        Row("Perplexity", "on held-out demonstrations; lower is better", [_cell(p.perplexity) for p in found]),
        Row("Length", "tokens per answer", [_cell(p.length, 1) for p in found]),
        Row("EOS rate", "share of answers with EOS; 0.95 or more is healthy", [_cell(p.eos_rate) for p in found]),
    ]
    rows += [
        Row(f"Distinct-{n}", "share of distinct word n-grams", [(number(p.distinct.get(n)), "") for p in found])
        for n in ("1", "2", "3")
    ]
    if any(p.forgetting for p in found):
        losses = [
            (number(p.forgetting.after, 3), f"({number(p.forgetting.before, 3)})") if p.forgetting else ("", "")
            for p in found
        ]
        rows.append(
            Row("Loss on old data", "nats per token on the start run's validation set; before in brackets", losses)
        )
    rows.append(Row("Unique answers", "share of all answers", [(number(p.unique_share), "") for p in found]))
    return rows


def reward_rows(found: Sequence[RewardEvaluation]) -> list[Row]:
    """The summary of reward models."""
    return [
        Row("Accuracy", "agreement with held-out labels", [_cell(r.accuracy) for r in found]),
        Row("Noise ceiling", "agreement of the gold reward with the labels", [_cell(r.noise_ceiling) for r in found]),
        Row("Gold accuracy", "agreement with the gold reward", [_cell(r.gold_accuracy) for r in found]),
        Row(
            "Calibration error",
            "0 is best; in brackets what chance alone gives",
            [(number(r.ece, 3), f"({number(r.ece_by_chance, 3)})") for r in found],
        ),
        Row("Brier score", "0 is best; a coin flip gives 0.25", [(number(r.brier, 3), "") for r in found]),
        Row(
            "Length bias of the score",
            "correlation of score and length within a prompt; 0 is none",
            [(number(r.length_correlation_within), "") for r in found],
        ),
        Row(
            "Length bias of the labels",
            "share of pairs whose longer answer is preferred; 0.5 is none",
            [(number(r.label_length_bias), "") for r in found],
        ),
        Row("Longer wins", "accuracy of always preferring the longer answer", [_cell(r.longer_wins) for r in found]),
        *(
            Row(f"Accuracy: {name}", "within this category", [_cell(r.by_category.get(name)) for r in found])
            for name in dict.fromkeys(name for r in found for name in r.by_category)
        ),
        Row(
            "Pairs",
            "held-out pairs and their prompts",
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
