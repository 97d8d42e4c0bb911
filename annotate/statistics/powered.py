r"""Prediction-powered win rates: judgements of some pairs, and a reward model's predictions for all of them.

    θ = mean of (Y − λf) over the judged pairs + λ · mean of f over all pairs

Y is a judged outcome and f the reward model's prediction of it. E θ is the win rate whatever f is, so a bad reward
model costs precision but never validity. λ = clip(Cov(Y, f) / Var(f), 0, 1) minimises the variance; λ = 0 is the
human-only mean. Each half of the judged pairs uses the λ of the other half (cross-fitting), so that λ adds no bias.

Source: Angelopoulos, Duchi and Zrnic 2023, arXiv:2311.01453 (PPI++). Their λ multiplies f over the N pairs without a
judgement; with n judged pairs it is ours · N/(n + N), and the two estimates are equal.

The judged pairs have to be a random sample of all pairs. Pure: knows numbers only. Shapes: n = judged pairs, L = looks.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from annotate.statistics.quality import Floats

FIRST_LOOK = 30
"""Judged pairs before the first interval: a normal interval of fewer outcomes covers too rarely."""
PSEUDO_JUDGEMENTS = 4
"""Outcomes at distance ½ from the mean that Var Y is computed with, so that few equal outcomes prove little."""


@dataclass(frozen=True)
class Interval:
    """A win rate with two intervals at 95 %."""

    mean: float
    low: float
    """Of the interval for a single look that was planned beforehand."""
    high: float
    sequence_low: float
    """Of the confidence sequence: in 95 % of campaigns it holds the win rate at every look."""
    sequence_high: float


@dataclass(frozen=True)
class Powered:
    """The win rate with predictions, and the human-only one from the same judgements."""

    with_predictions: Interval
    human_only: Interval
    weight: float
    """λ, the mean of the two halves."""
    judged: int
    pairs: int
    """All pairs, the judged ones included."""


class Sums(NamedTuple):
    """Sums over the judged pairs of each half: arrays (2, L)."""

    judged: Floats
    outcomes: Floats
    predictions: Floats
    outcomes_squared: Floats
    products: Floats
    predictions_squared: Floats


class Looks(NamedTuple):
    """Estimates at each look: arrays (L,)."""

    mean: Floats
    error: Floats
    """Standard error of `mean`."""
    critical: Floats
    """Half-width of the confidence sequence in standard errors."""
    weight: Floats


def powered(outcomes: ArrayLike, predictions: ArrayLike, all_predictions: ArrayLike) -> Powered | None:
    """The win rate from judged outcomes and predictions.

    Args:
        outcomes: (n,) in [0, 1]: won 1, tied ½, lost 0; the mean of several judgements of one pair.
        predictions: (n,) in [0, 1], the predictions for these pairs.
        all_predictions: predictions for all pairs, the judged ones included.
    Returns:
        None with fewer than `FIRST_LOOK` judged pairs.
    """
    won, predicted, pool = (np.asarray(values, dtype=float) for values in (outcomes, predictions, all_predictions))
    assert won.shape == predicted.shape
    assert len(pool) >= len(won)
    if len(won) < FIRST_LOOK:
        return None
    rows = np.stack([np.ones_like(won), won, predicted, won**2, won * predicted, predicted**2])
    sums = Sums(*np.stack([rows[:, half::2].sum(1) for half in (0, 1)], axis=1)[:, :, None])
    looks = estimate(sums, len(pool), float(pool.mean()), float(pool.var(ddof=1)))
    alone = estimate(without_predictions(sums), len(pool), 0.0, 0.0)
    return Powered(_interval(looks), _interval(alone), float(looks.weight[0]), len(won), len(pool))


def without_predictions(sums: Sums) -> Sums:
    """The same sums with all predictions 0: the estimate from people alone."""
    zero = np.zeros_like(sums.judged)
    return sums._replace(predictions=zero, products=zero, predictions_squared=zero)


def estimate(sums: Sums, pairs: int, pool_mean: float | Floats, pool_variance: float | Floats) -> Looks:
    r"""Estimates at many looks at once.

        Var θ = Var(Y − λf)/n + (λ² Var f + 2λ Cov(Y − λf, f))/pairs

    The second term is the part that more judgements do not reduce. The estimates at successive looks have independent
    increments, so the confidence sequence is a repeated confidence interval (Jennison and Turnbull 1989, JRSS B 51(3))
    for looks from `FIRST_LOOK` judged pairs up to all pairs. Unlike a betting confidence sequence (Waudby-Smith and
    Ramdas 2020, arXiv:2010.09686), which holds for any number of looks, it relies on the normal approximation.

    Args:
        sums: of the judged pairs; each half holds two pairs or more.
        pairs: number of all pairs.
        pool_mean, pool_variance: of the predictions of all pairs.
    """
    n = np.maximum(sums.judged, 2)
    won, predicted = sums.outcomes / n, sums.predictions / n
    won_variance = (sums.outcomes_squared - n * won**2) / (n - 1)
    covariance = (sums.products - n * won * predicted) / (n - 1)
    variance = (sums.predictions_squared - n * predicted**2) / (n - 1)
    varies = variance > 1e-12
    weight = np.clip(np.where(varies, covariance / np.where(varies, variance, 1), 0), 0, 1)[::-1]  # the other half's
    share = n / n.sum(0)
    total = n.sum(0)
    mean = (share * (won - weight * predicted + weight * pool_mean)).sum(0)
    residual = (share * (won_variance - 2 * weight * covariance + weight**2 * variance)).sum(0)
    fixed = (share * (2 * weight * (covariance - weight * variance) + weight**2 * pool_variance)).sum(0)
    whole = np.maximum(residual + fixed, 1e-12)  # Var Y
    unexplained = np.where(residual + fixed > 1e-12, np.clip(residual / whole, 0, 1), 1)
    pseudo = PSEUDO_JUDGEMENTS / 4 * unexplained / total  # (½)² each
    last = whole / pairs  # the variance when everything is judged
    error = np.sqrt(np.maximum((residual + pseudo) / total + fixed / pairs, 1e-12))
    ratio = np.maximum(residual / FIRST_LOOK + fixed / pairs, 0) / last
    return Looks(mean, error, _critical_values(ratio), (share * weight).sum(0))


def critical_value(ratio: float, *, level: float = 0.05) -> float:
    r"""The bound c that |B(t)|/√t of a Brownian motion exceeds anywhere in t ∈ [1, ratio] with probability `level`.

        (c − 1/c) φ(c) ln(ratio) + 4 φ(c)/c = level,   never below the bound of a single look

    Source: Siegmund 1985, Sequential Analysis, chapter 4 (tail approximation for a repeated significance test).

    Args:
        ratio: information at the last look over that at the first one.
    """
    from scipy.optimize import brentq  # takes half a second to load

    single = float(ndtri(1 - level / 2))

    def excess(bound: float) -> float:
        density = math.exp(-(bound**2) / 2) / math.sqrt(2 * math.pi)
        return (bound - 1 / bound) * density * math.log(max(ratio, 1.0)) + 4 * density / bound - level

    bound = float(brentq(excess, 1.0, 10.0))
    return single if ratio <= 1 else max(single, bound)


_RATIOS = np.geomspace(1, 1e6, 64)


@cache
def _critical() -> Floats:
    """`critical_value` of each of the `_RATIOS`."""
    return np.array([critical_value(ratio) for ratio in _RATIOS])


def _critical_values(ratios: Floats) -> Floats:
    """`critical_value` of each ratio, interpolated (error below 1e-3)."""
    values: Floats = np.interp(np.log(np.clip(ratios, 1, _RATIOS[-1])), np.log(_RATIOS), _critical())
    return values


def _interval(looks: Looks) -> Interval:
    mean, error, critical = (float(values[0]) for values in looks[:3])
    single, at_every_look = float(ndtri(0.975)) * error, critical * error

    def within(value: float) -> float:
        return min(1.0, max(0.0, value))

    return Interval(
        within(mean),
        within(mean - single),
        within(mean + single),
        within(mean - at_every_look),
        within(mean + at_every_look),
    )
