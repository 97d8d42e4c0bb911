"""Metrics as sums per prompt, so that every metric has a bootstrap interval and a paired difference. Pure.

Shapes: G = prompts, K = sums that a metric needs, W = weightings of the prompts (bootstrap draws).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest

from workbench.evaluate.statistics import Estimate, Floats, cluster_sums, share_interval, wilson_interval

RESAMPLES = 1000
Combine = Callable[[Floats], Floats]
"""(W, K) sums → (W,) values."""


def ratio(sums: Floats) -> Floats:
    """(W,) Σ values / Σ counts."""
    found: Floats = sums[:, 0] / sums[:, 1]
    return found


def exp_ratio(sums: Floats) -> Floats:
    """(W,) exp(Σ nats / Σ tokens): perplexity."""
    found: Floats = np.exp(ratio(sums))
    return found


def mean_of_ratios(sums: Floats) -> Floats:
    """(W,) mean of Σ values / Σ counts over subsets, from (W, 2S) sums; a subset that no draw holds is left out."""
    values, counts = sums[:, ::2], sums[:, 1::2]
    with np.errstate(invalid="ignore"):
        found: Floats = np.nanmean(np.where(counts > 0, values / counts, np.nan), axis=1)
    return found


@dataclass(frozen=True)
class Measure:
    """One metric of one model on G prompts."""

    rows: Floats
    """(G, K) sums per prompt."""
    combine: Combine = ratio
    share: bool = False
    """A share of successes: its interval is Wilson's, which has a width also at 0 and 1."""

    @classmethod
    def mean(cls, values: ArrayLike, prompts: Sequence[object] | None = None, *, share: bool = False) -> "Measure":
        """The mean of (N,) values that belong to prompts; None: each to its own."""
        return cls(np.stack(cluster_sums(values, prompts), axis=1), share=share)

    @property
    def prompts(self) -> int:
        """G."""
        return len(self.rows)

    def values(self, weights: Floats) -> Floats:
        """(W,) the metric for (W, G) weights of the prompts."""
        return self.combine(weights @ self.rows)

    def drawn(self, index: ArrayLike) -> "Measure":
        """The metric on a draw of prompts."""
        return replace(self, rows=self.rows[np.asarray(index)])

    def estimate(self, seed: int) -> Estimate:
        """The metric with its 95 % interval over prompts."""
        if self.share and self.combine is mean_of_ratios:
            return _mean_of_shares(self.rows)
        if self.share:
            found = share_interval(self.rows[:, 0] / self.rows[:, 1])
            return replace(found, mean=float(ratio(self.rows.sum(0, keepdims=True))[0]))
        return _estimate(self, seed)


@dataclass(frozen=True)
class Difference:
    """A metric minus the same metric elsewhere, on the same prompts."""

    first: Measure
    second: Measure

    @property
    def prompts(self) -> int:
        """G, the same on both sides."""
        assert self.first.prompts == self.second.prompts
        return self.first.prompts

    def values(self, weights: Floats) -> Floats:
        """(W,) differences for (W, G) weights of the prompts."""
        return self.first.values(weights) - self.second.values(weights)

    def drawn(self, index: ArrayLike) -> "Difference":
        """The difference on a draw of prompts."""
        return Difference(self.first.drawn(index), self.second.drawn(index))

    def estimate(self, seed: int) -> Estimate:
        """The difference with its paired 95 % interval over prompts."""
        return _estimate(self, seed)


def _mean_of_shares(rows: Floats) -> Estimate:
    """The mean of the shares of S subsets, with Wilson's interval on Kish's effective number of trials.

        n* = S² / Σ_s 1/n_s

    Source: Kish 1965 (weights 1 / (S n_s)); Wilson 1927. It is rather too wide if the subsets' shares differ.

    Args:
        rows: (G, 2S) value and count of each prompt, in the columns of its subset.
    """
    sums = rows.sum(0, keepdims=True)
    counts = sums[0, 1::2][sums[0, 1::2] > 0]
    mean, trials = float(mean_of_ratios(sums)[0]), float(len(counts) ** 2 / (1 / counts).sum())
    return Estimate(mean, *wilson_interval(mean * trials, trials), len(rows), len(rows))


def _estimate(measure: Measure | Difference, seed: int) -> Estimate:
    """Percentile bootstrap over prompts: each draw weighs a prompt by how often it was drawn."""
    groups = measure.prompts
    low, high = np.quantile(measure.values(_draws(groups, seed)), [0.025, 0.975])
    return Estimate(float(measure.values(np.ones((1, groups)))[0]), float(low), float(high), groups, groups)


@lru_cache(maxsize=8)
def _draws(groups: int, seed: int) -> Floats:
    """(RESAMPLES, groups) how often each draw holds each prompt; all metrics share the draws."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(groups, np.full(groups, 1 / groups), size=RESAMPLES).astype(np.float64)


@dataclass(frozen=True)
class Signs:
    """Exact two-sided sign test of paired gaps."""

    positive: int
    negative: int
    """Gaps of 0 count for neither side."""
    p: float
    """Chance of signs at least as uneven if both are equally likely."""


def sign_test(gaps: ArrayLike) -> Signs:
    """Whether positive and negative gaps are equally frequent.

    Source: Dixon and Mood 1946, JASA 41(236).

    Args:
        gaps: (N,) float.
    """
    array = np.asarray(gaps, dtype=np.float64)
    positive, negative = int((array > 0).sum()), int((array < 0).sum())
    p = float(binomtest(positive, positive + negative).pvalue) if positive + negative else 1.0
    return Signs(positive, negative, p)
