"""Whether to go on labelling: the forecast for the next round, the check of earlier ones, and a recommendation."""

from collections.abc import Sequence
from dataclasses import dataclass

from workbench.evaluate.statistics import Floats
from workbench.evaluate.tables import number
from workbench.loop.forecast import Forecast, Gain, forecast


@dataclass(frozen=True)
class Check:
    """The forecast of one round, made after the round before, and what then happened."""

    round: int
    forecast: Gain
    gain: float
    """Measured over the round before, on the same prompts."""
    inside: bool


@dataclass(frozen=True)
class Outlook:
    """What is known about the next labels."""

    forecast: Forecast
    checks: list[Check]
    """Of the rounds 2 and later, computed from the rounds before each."""
    gain_shown: bool
    """Whether the whole interval of the gain from 100 more labels is above 0."""


def outlook(labels: Sequence[int], gains: Floats, more: int) -> Outlook | None:
    """The outlook after T rounds; None without a round, or if a round has no new label.

    Args:
        labels: T numbers of labels so far.
        gains: (T, G) gain of each held-out prompt over the supervised model after each round.
        more: labels of the next round.
    """
    if not labels or any(later <= earlier for earlier, later in zip([0, *labels], labels, strict=False)):
        return None
    next_round = forecast(labels, gains, more)
    checks = [_check(labels, gains, before) for before in range(1, len(labels))]
    return Outlook(next_round, checks, next_round.per_100.low > 0)


def _check(labels: Sequence[int], gains: Floats, before: int) -> Check:
    """The round after `before` rounds against its forecast, for the labels that it got."""
    expected = forecast(labels[:before], gains[:before], labels[before] - labels[before - 1]).measured
    gain = float((gains[before] - gains[before - 1]).mean())
    return Check(before + 1, expected, gain, expected.low <= gain <= expected.high)


def recommendation(found: Outlook, unit: str) -> str:
    """Whether to label on, in one sentence."""
    gain = f"100 more labels: {_span(found.forecast.per_100)} {unit}"
    if found.gain_shown:
        return f"{gain}."
    if found.forecast.per_100.high < 0:
        return f"The last round lost ({gain}): stop here, or train less far on these labels."
    if not found.checks:
        return f"One round shows no trend yet ({gain}): run another round."
    return f"No further gain shown ({gain}): stop here, or change what is sampled."


def check_sentence(found: Outlook) -> str:
    """Whether the latest forecast held; empty after the first round."""
    if not found.checks:
        return ""
    last, right = found.checks[-1], sum(check.inside for check in found.checks)
    return (
        f"Round {last.round} was forecast to add {_span(last.forecast)} and added {_signed(last.gain)}: "
        f"{'inside' if last.inside else 'outside'} the interval ({right} of {len(found.checks)} forecasts held so far)."
    )


def _span(gain: Gain) -> str:
    return f"{_signed(gain.low)} to {_signed(gain.high)}"


def _signed(value: float) -> str:
    return ("+" if value >= 0 else "") + number(value, 3)
