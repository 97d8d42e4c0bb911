"""Fits a power law to a learning curve and forecasts the gain from more pairs. Pure.

Shapes: N = fits (one per size and seed).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import least_squares

from workbench.evaluate.statistics import Floats

LOWEST, HIGHEST = (0.5, 0.0, 0.05), (1.0, 50.0, 2.0)
"""Bounds of ceiling, scale and exponent; the ceiling lies between chance and 1."""
START = (0.8, 1.0, 0.5)


@dataclass(frozen=True)
class PowerLaw:
    """accuracy(n) = ceiling − scale · n^(−exponent)."""

    ceiling: float
    scale: float
    exponent: float

    def __call__(self, pairs: ArrayLike) -> Floats:
        """Accuracy at a number of pairs; it never falls, because scale and exponent are not negative."""
        return _law(np.asarray(pairs, dtype=np.float64), self.ceiling, self.scale, self.exponent)


@dataclass(frozen=True)
class Forecast:
    """The gain in accuracy from `more` pairs beyond `pairs`, as a share (0.01 is one point)."""

    pairs: int
    more: int
    gain: float
    low: float
    high: float

    @property
    def sentence(self) -> str:
        """The gain in points, ± half the width of the 95 % interval."""
        return f"{self.more:,} more pairs: {100 * self.gain:+.1f} ± {50 * (self.high - self.low):.1f} points"


def fit_power_law(pairs: ArrayLike, accuracies: ArrayLike) -> PowerLaw:
    """The power law with the least squared error.

        min Σ_i (y_i − (c − a n_i^(−b)))²,   ½ ≤ c ≤ 1, 0 ≤ a, 0.05 ≤ b ≤ 2

    Source: Hestness et al. 2017, arXiv:1712.00409, section 3 (error = a n^(−b) + constant).

    Args:
        pairs: (N,) > 0, pairs that each fit was trained on.
        accuracies: (N,) its accuracy, in [0, 1].
    """
    n, y = _points(pairs, accuracies)
    best = least_squares(lambda law: _law(n, *law) - y, START, bounds=(LOWEST, HIGHEST), x_scale=(0.1, 1.0, 0.1))
    return PowerLaw(*map(float, best.x))


def resampled_laws(pairs: ArrayLike, accuracies: ArrayLike, *, seed: int, resamples: int = 300) -> list[PowerLaw]:
    """Power laws fitted to resampled curves: a parametric bootstrap.

        y*_i = law(n_i) + s ε_i,   ε_i ~ N(0, 1),   s² = Σ (y_i − law(n_i))² / (N − 3)

    Source: Efron & Tibshirani 1993, section 6.5. The noise covers seeds and subsets; it does not cover a wrong law, nor
    that all fits share one held-out set.

    Args:
        pairs: (N,) as in `fit_power_law`, N > 3.
        accuracies: (N,) likewise.
        seed: of a generator of its own.
        resamples: number of resampled curves.
    """
    n, y = _points(pairs, accuracies)
    assert len(n) > 3
    law = fit_power_law(n, y)
    expected = law(n)
    deviation = np.sqrt(((y - expected) ** 2).sum() / (len(n) - 3))
    noise = np.random.default_rng(seed).normal(0, deviation, (resamples, len(n)))
    return [fit_power_law(n, np.clip(expected + row, 0, 1)) for row in noise]


def forecast(law: PowerLaw, laws: list[PowerLaw], *, pairs: int, more: int, confidence: float = 0.95) -> Forecast:
    """The gain from more pairs, with the percentile interval over resampled laws.

    gain = law(pairs + more) − law(pairs)
    """

    def gain(one: PowerLaw) -> float:
        before, after = one([pairs, pairs + more])
        return float(after - before)

    low, high = np.quantile([gain(one) for one in laws], [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Forecast(pairs, more, gain(law), float(low), float(high))


def band(laws: list[PowerLaw], pairs: ArrayLike, *, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Lower and upper bound of the curve at each number of pairs, over resampled laws."""
    curves = np.stack([law(pairs) for law in laws])
    low, high = np.quantile(curves, [0.5 - confidence / 2, 0.5 + confidence / 2], axis=0)
    return low, high


def _law(n: Floats, ceiling: float, scale: float, exponent: float) -> Floats:
    return ceiling - scale * n ** (-exponent)


def _points(pairs: ArrayLike, accuracies: ArrayLike) -> tuple[Floats, Floats]:
    n, y = np.asarray(pairs, dtype=np.float64), np.asarray(accuracies, dtype=np.float64)
    assert n.shape == y.shape
    assert n.ndim == 1
    return n, y
