"""Means and shares with intervals. Pure: knows numbers and the prompts they belong to.

Answers to one prompt resemble each other. So the bootstrap draws prompts (*clusters*), not answers, and standard errors
are computed over prompts.

Shapes: N = numbers, G = prompts (clusters).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

Floats = NDArray[np.float64]
"""Float64 array; its shape is in the docstring of the function that takes or returns it."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval."""

    mean: float
    """In the unit of the numbers averaged."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""
    count: int
    """Number of values averaged (N)."""
    prompts: int
    """Number of prompts they come from (G)."""

    @property
    def interval_known(self) -> bool:
        """Whether there is an interval: one prompt shows no spread, but Wilson's interval of a share has a width."""
        return self.prompts > 1 or self.low < self.high


def wilson_interval(successes: float, count: float, *, confidence: float = 0.95) -> tuple[float, float]:
    r"""Wilson's score interval for a share.

        (p + z²/2n ± z·√(p(1−p)/n + z²/4n²)) / (1 + z²/n),   p = successes / n

    Source: Wilson 1927, JASA 22(158). scipy's `binomtest` takes integers only; here ties count as half successes
    (which makes the interval slightly too wide) and the number of trials may be an effective one.

    Args:
        successes: number of successes, a tie counts ½; between 0 and `count`.
        count: number of independent trials, n > 0; it need not be an integer.
        confidence: two-sided coverage.
    Returns:
        low, high: both within [0, 1].
    """
    assert count > 0
    assert 0 <= successes <= count * (1 + 1e-12)
    z = float(ndtri(0.5 + confidence / 2))
    share = min(successes / count, 1.0)
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def cluster_sums(values: ArrayLike, clusters: Sequence[object] | None) -> tuple[Floats, Floats]:
    """Sum and number of values per cluster, clusters in order of first appearance.

    Args:
        values: (N,) float.
        clusters: (N,) hashable, the prompt each value belongs to; None puts each value in its own.
    Returns:
        sums: (G,) float64.
        counts: (G,) float64.
    """
    array = np.asarray(values, dtype=np.float64)
    assert array.ndim == 1
    assert array.size > 0
    if clusters is None:
        return array, np.ones_like(array)
    assert len(clusters) == array.size
    position: dict[object, int] = {}
    index = np.array([position.setdefault(cluster, len(position)) for cluster in clusters])
    sums = np.bincount(index, weights=array).astype(np.float64)
    return sums, np.bincount(index).astype(np.float64)


def share_interval(values: ArrayLike, clusters: Sequence[object] | None = None) -> Estimate:
    r"""A share with Wilson's 95 % interval on the effective number of trials.

        n* = p(1−p) / SE²,   SE² = G/(G−1) · Σ_g (Σ_{i∈g} (x_i − p))² / N²;   n* = G where SE = 0;   never more than N

    If all or none succeed, a bootstrap interval has no width; Wilson's interval still has.
    Source: Wilson 1927; effective sample size: Kish 1965, and with Wilson: Dean and Pagano 2015, JSSAM 3(4).

    Args:
        values: (N,) float in [0, 1]: 1 success, 0 failure, ½ a tie.
        clusters: (N,) hashable, the prompt each value belongs to; None for independent values.
    """
    sums, counts = cluster_sums(values, clusters)
    total, groups = counts.sum(), len(sums)
    share, error = float(sums.sum() / total), _clustered_error(sums, counts)
    trials = min(share * (1 - share) / error**2, total) if 0 < error < math.inf else float(groups)
    low, high = wilson_interval(share * trials, trials)
    return Estimate(share, low, high, int(total), groups)


def _clustered_error(sums: Floats, counts: Floats) -> float:
    """Standard error of Σ sums / Σ counts, clustered; infinite with a single cluster."""
    total, groups = counts.sum(), len(sums)
    if groups < 2:
        return math.inf
    residuals = sums - counts * (sums.sum() / total)
    return math.sqrt(groups / (groups - 1) * float((residuals**2).sum())) / float(total)


def bootstrap_interval(
    values: ArrayLike,
    clusters: Sequence[object] | None = None,
    *,
    seed: int,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Estimate:
    """Mean with a percentile bootstrap interval over clusters.

        draw G clusters with replacement; m* = Σ sums / Σ counts of the draw; take quantiles of m*

    Source: Efron and Tibshirani 1993 (percentile interval); whole clusters: Cameron, Gelbach and Miller 2008.
    Differs from scipy.stats.bootstrap: draws clusters; percentile method only.

    Args:
        values: (N,) float.
        clusters: (N,) hashable, the prompt each value belongs to; None for independent values.
        seed: of a separate generator; the global state is untouched.
        resamples: number of draws.
        confidence: two-sided coverage.
    Returns:
        the mean and its interval.
    """
    return bootstrap_ratio(*cluster_sums(values, clusters), seed=seed, resamples=resamples, confidence=confidence)


def bootstrap_ratio(
    sums: Floats,
    counts: Floats,
    *,
    seed: int,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Estimate:
    """Σ sums / Σ counts with a percentile bootstrap interval over its terms.

    Args:
        sums: (G,) float, sum per cluster (for example the nats of a text).
        counts: (G,) float > 0, count per cluster (for example the tokens of the text).
        seed, resamples, confidence: as in `bootstrap_interval`.
    """
    groups = len(sums)
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    rows = max(1, 2_000_000 // groups)  # bounds the memory of one draw
    for start in range(0, resamples, rows):
        drawn = rng.integers(groups, size=(min(rows, resamples - start), groups))
        means[start : start + len(drawn)] = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Estimate(float(sums.sum() / counts.sum()), float(low), float(high), int(counts.sum()), groups)
