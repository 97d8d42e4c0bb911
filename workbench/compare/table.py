"""The results of a comparison as JSON, as lines for a terminal, and as a recommendation in words."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from workbench.compare.comparison import Cell, Comparison, MethodResult
from workbench.compare.config import BASELINE
from workbench.evaluate.tables import number
from workbench.run.progress import duration

COLUMNS = (
    *("gold", "95 %", "gain", "p", "win", "at equal length", "KL", "tokens", "distinct-2", "unique", "tax"),
    *("time", "GiB"),
)
"""Of the terminal's table, after the name."""


def as_json(found: Comparison) -> dict[str, Any]:
    """The content of compare.json."""
    power = found.power
    return {
        "recommendation": recommendation(found),
        "methods": {method.name: _method_json(method) for method in found.methods},
        "pairs": [
            {
                "first": pair.first,
                "second": pair.second,
                "difference": pair.difference.mean,
                "ci": [pair.difference.low, pair.difference.high],
                "p": pair.difference.p,
                "adjusted_p": pair.adjusted_p,
                "verdict": (pair.first if pair.difference.mean > 0 else pair.second)
                if pair.shown
                else "no difference shown",
            }
            for pair in found.pairs
        ],
        "judge": found.judge,
        "seeds": list(found.seeds),
        "prompts": found.prompts,
        "answers_per_prompt": found.answers,
        "seconds": found.seconds,
        "shared_seconds": found.shared_seconds,
        "aa_false_share": found.test.aa_false_share,
        "shuffled_false_share": found.test.shuffled_false_share,
        "planted_share_same_runs": found.test.planted_share,
        "power": None
        if power is None
        else {
            "gain": power.gain,
            "power": power.power,
            "prompts": found.prompts,
            "seeds": len(found.seeds),
            "variances": dataclasses.asdict(power.parts),
            "needed": None if power.needed is None else dict(zip(("seeds", "prompts"), power.needed, strict=True)),
        },
    }


def _method_json(method: MethodResult) -> dict[str, Any]:
    standing = method.standing
    return {
        "family": method.family,
        "gold": standing.gold.mean,
        "gold_ci": [standing.gold.low, standing.gold.high],
        "gain": standing.gain.mean,
        "gain_ci": [standing.gain.low, standing.gain.high],
        "gain_adjusted_p": standing.gain_p,
        "first_share": standing.first_share,
        "win_rate": method.win_rate.mean,
        "win_rate_ci": [method.win_rate.low, method.win_rate.high],
        "win_rate_length_controlled": method.win_rate_length_controlled.mean,
        "win_rate_length_controlled_ci": [
            method.win_rate_length_controlled.low,
            method.win_rate_length_controlled.high,
        ],
        "kl": None if method.kl is None else method.kl.mean,
        "length": method.length,
        "eos_rate": method.eos_rate,
        "distinct_2": method.distinct_2,
        "unique_share": method.unique_share,
        "alignment_tax": None if method.tax is None else method.tax.mean,
        "seconds": method.seconds,
        "peak_gib": method.peak_gib,
        "needs_reward": method.needs_reward,
        "frontier": [[point.kl, point.gold] for point in method.path],
    }


def cells(method: MethodResult) -> list[str]:
    """One row of the terminal's table, as `COLUMNS`."""
    standing = method.standing
    baseline = method.name == BASELINE
    return [
        number(standing.gold.mean, 3),
        span(standing.gold),
        "" if baseline else signed(standing.gain.mean),
        "" if baseline else p_value(standing.gain_p),
        "" if baseline else f"{method.win_rate.mean:.0%}",
        "" if baseline else f"{method.win_rate_length_controlled.mean:.0%}",
        number(None if method.kl is None else method.kl.mean, 2),
        number(method.length, 1),
        number(method.distinct_2, 3),
        number(method.unique_share, 2),
        "" if baseline else number(None if method.tax is None else method.tax.mean, 3),
        duration(method.seconds),
        number(method.peak_gib, 2),
    ]


def lines(found: Comparison) -> list[str]:
    """The table and the recommendation, for a terminal."""
    rows = [["", *COLUMNS], *([method.name, *cells(method)] for method in found.methods)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
    return [*table, "", recommendation(found), *([] if found.power is None else [power_sentence(found)])]


def recommendation(found: Comparison) -> str:
    """Which method to take, and how sure that is."""
    best = found.methods[0]
    unit = "gold reward" if found.judge == "gold" else "score"
    shown = {
        pair.second if pair.first == best.name else pair.first: pair.shown
        for pair in found.pairs
        if best.name in (pair.first, pair.second)
    }
    equal = [method for method in found.methods[1:] if not shown[method.name]]
    if best.name == BASELINE or BASELINE in [method.name for method in equal]:
        return f"Take none of them yet: no difference is shown between {best.name}, the highest {unit}, and sft."
    gain = best.standing.gain
    text = (
        f"Take {best.name}: {unit} {number(best.standing.gold.mean)}, {signed(gain.mean, 2)} above sft "
        f"(95 % {number(gain.low)} to {number(gain.high)}; {p_words(best.standing.gain_p)} after Holm's "
        f"correction), the highest in {best.standing.first_share:.0%} of resamples."
    )
    if len(found.seeds) == 1:
        text += " One seed shows nothing about the variance of training."
    if best.family == "sampling":
        text += " It trains nothing, but every answer costs several."
    if not equal:
        return f"{text} A difference from every other method is shown."
    text += f" No difference shown from {_listed([method.name for method in equal])}."
    cheapest = min([best, *equal], key=lambda method: method.seconds if method.family != "sampling" else float("inf"))
    if cheapest is not best:
        text += f" The cheapest of these to train is {cheapest.name} ({duration(cheapest.seconds)})."
    return text


def power_sentence(found: Comparison) -> str:
    """How small a difference this comparison can find."""
    power = found.power
    assert power is not None
    size = f"{len(found.seeds)} seeds and {found.prompts} prompts"
    text = f"A true difference of {power.gain:g} between two methods is found in {power.power:.0%} of cases at {size}."
    if power.power >= 0.8:
        return text
    if power.needed is None:
        return f"{text} Even 64 seeds and {8 * found.prompts} prompts would find it less than four times in five."
    seeds, prompts = power.needed
    return f"{text} With {seeds} seeds and {prompts} prompts it would be found four times in five."


def p_value(p: float) -> str:
    """A p-value with three digits."""
    return "<.001" if p < 0.001 else f"{p:.3f}"


def p_words(p: float) -> str:
    """A p-value in a sentence."""
    return "p < .001" if p < 0.001 else f"p = {p:.3f}"


def signed(value: float, digits: int = 3) -> str:
    """A number with its sign."""
    shown = number(value, digits)
    return shown if shown.startswith("−") and shown.strip("−0.") else f"+{shown.removeprefix('−')}"


def span(cell: Cell, digits: int = 2) -> str:
    """An interval."""
    return f"{number(cell.low, digits)} to {number(cell.high, digits)}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
