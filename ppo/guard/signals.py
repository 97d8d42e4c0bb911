"""Signals of over-optimisation: numbers about a batch of answers, or about the batches so far. Pure.

Shapes: N = answers, D = hidden size, K = reward models, M = observations.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FEWEST = 8
"""A law with two coefficients is fitted to at least this many observations: with five, chance alone often falls."""
Z = 1.96
"""Half-width of a 95 % interval, in standard errors."""


@dataclass(frozen=True)
class Law:
    """Gao's law fitted to the observations so far."""

    alpha: float
    beta: float
    peak: float
    """√KL at which the fitted gain is largest; infinite if it never falls."""
    low: float
    """Lower end of the peak's 95 % interval, √nats."""
    high: float
    """Upper end; infinite if the observations do not show that the gain ever falls."""
    falling: float
    """−slope of the gain at the newest √KL, in standard errors: above 1.96, it falls."""


def fit_law(distances: Floats, gains: Floats) -> Law | None:
    """Least squares of the gain in held-out reward against d = √KL to the reference.

        R(d) = d (α − β ln d),   R'(d) = α − β (1 + ln d),   peak: d* = exp(α/β − 1)

    The slope is linear in (α, β), so its standard error is exact. The peak's interval is Fieller's for the ratio α/β.

    Source: Gao et al. 2022, arXiv:2210.10760, section 3.1 (reinforcement learning); Fieller 1954.

    Args:
        distances: (M,) √KL, oldest first; observations at 0 say nothing about the law and are left out.
        gains: (M,) held-out reward less its value before training.

    Returns:
        None with fewer than FEWEST observations, or if they all lie at one distance.
    """
    real = distances > 0
    d, gain = distances[real], gains[real]
    if len(d) < FEWEST or np.ptp(d) < 1e-9:
        return None
    design = np.stack([d, -d * np.log(d)], axis=1)  # (M, 2)
    inverse = np.linalg.pinv(design.T @ design)
    alpha, beta = inverse @ design.T @ gain
    residual = gain - design @ (alpha, beta)
    covariance = inverse * float(residual @ residual) / (len(d) - 2)
    contrast = np.array([1.0, -1.0 - math.log(d[-1])])
    slope = float(contrast @ (alpha, beta))
    error = math.sqrt(max(float(contrast @ covariance @ contrast), 1e-24))
    low, high = _fieller(float(alpha), float(beta), covariance)
    return Law(float(alpha), float(beta), _peak(float(alpha), float(beta)), low, high, -slope / error)


def _peak(alpha: float, beta: float) -> float:
    return _exp(alpha / beta - 1) if beta > 0 else math.inf


def _exp(power: float) -> float:
    return math.exp(power) if power < 700 else math.inf


def _fieller(alpha: float, beta: float, covariance: Floats) -> tuple[float, float]:
    """95 % interval of exp(α/β − 1): all u = α/β with (α − uβ)² ≤ z² Var(α − uβ). (0, ∞) if β may be 0."""
    (aa, ab), (_, bb) = Z**2 * covariance
    square, half, rest = beta**2 - bb, alpha * beta - ab, alpha**2 - aa
    if beta <= 0 or square <= 0:
        return 0.0, math.inf
    root = math.sqrt(max(half**2 - square * rest, 0.0))
    return _exp((half - root) / square - 1), _exp((half + root) / square - 1)


@dataclass(frozen=True)
class Cloud:
    """Where the states of labelled answers lie: a mean, a shrunk covariance, and a radius."""

    mean: Floats
    """(D,)."""
    precision: Floats
    """(D, D), inverse of the shrunk covariance."""
    radius: float
    """Mahalanobis distance that 99 % of further labelled answers do not exceed."""

    @classmethod
    def of(cls, states: Floats) -> "Cloud":
        """Fit mean and covariance to every other state, and the radius to the rest: in-sample distances are too small.

        Args:
            states: (N, D), N ≥ 8, in an order that does not matter.
        """
        fitted, rest = states[::2], states[1::2]
        mean = fitted.mean(axis=0)
        precision: Floats = np.asarray(np.linalg.inv(shrunk_covariance(fitted)), dtype=np.float64)
        distances = cls(mean, precision, math.inf).distances(rest)
        return cls(mean, precision, float(np.quantile(distances, 0.99)))

    def distances(self, states: Floats) -> Floats:
        """(N,) Mahalanobis distances of states (N, D)."""
        centred = states - self.mean
        squares: Floats = np.einsum("nd,de,ne->n", centred, self.precision, centred, optimize=True)
        return np.sqrt(np.maximum(squares, 0.0))

    def outlier_share(self, states: Floats) -> float:
        """Share of states (N, D) beyond the radius; about 0.01 for answers like the labelled ones.

        Source: the outlier index of InfoRM, Miao et al. 2024, arXiv:2402.09345. Differs: distances from labelled
        answers, not from those of the start policy.
        """
        return float((self.distances(states) > self.radius).mean())


def shrunk_covariance(states: Floats) -> Floats:
    """(D, D) covariance shrunk towards a multiple of the identity, which keeps it invertible for N < D.

        (1 − ρ) S + ρ μ I,   μ = tr(S)/D,   ρ by Ledoit and Wolf

    Source: Ledoit and Wolf 2004, "A well-conditioned estimator for large-dimensional covariance matrices", eq. 14.

    Args:
        states: (N, D).
    """
    count, size = states.shape
    centred = states - states.mean(axis=0)
    sample = centred.T @ centred / count
    scale = float(np.trace(sample)) / size
    distance = float((sample**2).sum()) / size - scale**2
    squares = centred**2
    noise = (float((squares.T @ squares).sum()) / count - float((sample**2).sum())) / (count * size)
    shrinkage = min(max(noise, 0.0), distance) / distance if distance > 0 else 1.0
    floor = max(scale, 1e-12) * 1e-6  # states that do not vary at all still have an inverse
    shrunk: Floats = (1 - shrinkage) * sample + (shrinkage * scale + floor) * np.eye(size)
    return shrunk


def spread(scores: Floats) -> float:
    """Mean over answers of the standard deviation over models, (K, N) → score units; 0 for one model."""
    return float(scores.std(axis=0, ddof=1).mean()) if len(scores) > 1 else 0.0
