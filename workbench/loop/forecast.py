"""What the next labels buy: the gain of the last round, scaled by diminishing returns. Pure.

It describes rounds of one kind, labels and training together, and cannot tell what each of them adds.

Shapes: T = rounds so far, G = held-out prompts, B = exponents, N = noise levels, C = B · N.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from workbench.evaluate.statistics import Floats

EXPONENTS = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0)
"""How fast a label's worth falls, from not at all (0) to a second round with a tenth of the first one's gain (4)."""
NOISE = (0.05, 0.1, 0.2, 0.4, 0.7)
"""Luck of one round's training, relative to the root mean square of the rounds' gains."""
TINY = 1e-9
"""Least luck: policies that do not differ at all have no gain to scale it by."""
LEVELS = (np.arange(100) + 0.5) / 100
"""Quantiles that stand for one normal distribution of the mixture."""


@dataclass(frozen=True)
class Gain:
    """An expected gain with its 95 % interval, in the unit of the quality."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Forecast:
    """What further labels buy."""

    labels: int
    """Labels so far."""
    more: int
    """Labels of the next round."""
    measured: Gain
    """What the measurement after the next round will show, luck of its training and answers included."""
    per_100: Gain
    """What 100 more labels add in expectation."""


def law(labels: ArrayLike, exponent: float, scale: float) -> Floats:
    """Total gain after n labels, if each adds less than the one before by a power law.

        h_b(n) = ∫_0^{n/k} (1 + x)^(−b) dx = ((1 + n/k)^(1−b) − 1) / (1 − b),   ln(1 + n/k) at b = 1

    For b > 1 this is the learning curve c − a (n + k)^(1−b) with the ceiling c; b ≤ 1 has no ceiling.
    Source: power law with an offset: Hestness et al. 2017, arXiv:1712.00409, section 3.

    Args:
        labels: any shape, n ≥ 0.
        exponent: b ≥ 0.
        scale: k > 0, labels of the first round.
    """
    x = 1 + np.asarray(labels, dtype=np.float64) / scale
    found: Floats = np.log(x) if exponent == 1 else (x ** (1 - exponent) - 1) / (1 - exponent)
    return found


def forecast(labels: ArrayLike, gains: ArrayLike, more: int) -> Forecast:
    r"""What `more` labels buy after T rounds.

        g(m) = D · r_b(m),   r_b(m) = (h_b(n_T + m) − h_b(n_T)) / (h_b(n_T) − h_b(n_{T−1}))
        D ~ N(d_T, s_T² + τ²);   the next round will measure g(m) + N(0, s_T² + τ²)

    d_t and s_t: mean of a round's gain over prompts and its standard error (the bootstrap over prompts in closed
    form). τ = c · √(mean_t (d_t² + s_t²)) is the luck of a round's training, which two to four rounds are too few to
    estimate. So exponent b and noise c are averaged over EXPONENTS and NOISE, each pair weighted by the density that it
    gives to all gains so far, d_t ~ N(A · (h_b(n_t) − h_b(n_{t−1})), s_t² + τ²) with a flat A.

    Only the last round's gain is scaled. A law fitted through all rounds keeps rising by construction, so it would
    promise gains after the policy has stopped improving. The first forecast supposes that the first gain goes on in
    smaller steps; gains that accelerate are missed. Coverage on known curves: docs/experiments.md.

    Source: averaging over models: Hoeting et al. 1999, Statistical Science 14(4).

    Args:
        labels: (T,) labels after each round, the first > 0, rising.
        gains: (T, G) gain of each held-out prompt over the supervised model, G ≥ 2.
        more: labels of the next round.
    """
    n, table = np.concatenate(([0.0], np.asarray(labels, dtype=np.float64))), np.asarray(gains, dtype=np.float64)
    assert table.ndim == 2
    assert len(n) == len(table) + 1
    assert table.shape[1] > 1, "one prompt has no standard error"
    steps = np.diff(table, axis=0, prepend=0.0)
    means, sampling = steps.mean(1), steps.var(1) / steps.shape[1]  # (T,)
    variances = (np.multiply(NOISE, np.sqrt((means**2 + sampling).mean())) + TINY) ** 2  # (N,) τ²
    curves = np.array([law([*n, n[-1] + more, n[-1] + 100], b, n[1]) for b in EXPONENTS])  # (B, T + 3)
    so_far, ends = curves[:, : len(n)], curves[:, len(n) :]
    weights = _densities(means, sampling + variances[:, None], np.diff(so_far)).ravel()  # (C,), noise varies fastest
    error = np.tile(np.sqrt(sampling[-1] + variances), len(EXPONENTS))
    ratios = (ends - so_far[:, -1:]) / (so_far[:, -1:] - so_far[:, -2:-1])  # (B, 2)
    next_round, hundred = (np.repeat(ratio, len(NOISE)) for ratio in ratios.T)
    return Forecast(
        labels=int(n[-1]),
        more=more,
        measured=_mixture(means[-1] * next_round, np.hypot(error * next_round, error), weights),
        per_100=_mixture(means[-1] * hundred, error * hundred, weights),
    )


def _densities(gains: Floats, variances: Floats, shapes: Floats) -> Floats:
    """(B, N) densities of (T,) gains under N(A · shape, variances), up to a factor.

    A is flat in units of the total gain.

    Args:
        gains: (T,).
        variances: (N, T).
        shapes: (B, T) > 0.
    """
    shapes = (shapes / shapes.sum(1, keepdims=True))[:, None]  # (B, 1, T)
    precision = (shapes**2 / variances).sum(-1)
    amplitude = (shapes * gains / variances).sum(-1) / precision
    misfit = ((gains - amplitude[..., None] * shapes) ** 2 / variances).sum(-1)
    found: Floats = np.exp(-(misfit - misfit.min()) / 2) / np.sqrt(precision * variances.prod(-1))
    return found


def _mixture(means: Floats, deviations: Floats, weights: Floats) -> Gain:
    """Mean and 95 % interval of a mixture of C normal distributions."""
    weights = weights / weights.sum()
    values = (means[:, None] + deviations[:, None] * ndtri(LEVELS)).ravel()
    order = np.argsort(values)
    below = np.cumsum(np.repeat(weights / len(LEVELS), len(LEVELS))[order])
    low, high = values[order][np.searchsorted(below, [0.025, 0.975])]
    return Gain(float(means @ weights), float(low), float(high))
