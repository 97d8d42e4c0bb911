"""How far annotators agree. Pure: numbers in, numbers out. A statistic without meaning is undefined, with a reason.

A judgement is a strength from −3 (first answer much better) to 3; a tie is 0. Items may have different numbers of
judgements; those with one say nothing about agreement. A statistic is undefined (None) if nothing is compared, or if
everybody always gives the same answer, so that chance alone would agree as often.

`annotate.statistics.agreement_sums` has the formulas. Shapes: M = judgements, N = items with two judgements or more.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from annotate.statistics.agreement_sums import (
    NOTHING_COMPARED,
    NOTHING_DECIDED,
    SIDES,
    VALUES,
    Floats,
    Integers,
    Sums,
    alpha_sums,
    counts_of,
    fleiss_sums,
    pooled_kappa_sums,
    raw_sums,
)


@dataclass(frozen=True)
class Statistic:
    """A number with its interval, or the reason why it is undefined."""

    value: float | None
    """None: undefined."""
    low: float | None = None
    """Bootstrap over items, 2.5 %."""
    high: float | None = None
    """Bootstrap over items, 97.5 %."""
    items: int = 0
    """Items it is computed from."""
    reason: str = ""
    """Why it is undefined."""


def agreement(
    items: ArrayLike, annotators: ArrayLike, values: ArrayLike, *, resamples: int = 500, seed: int = 0
) -> dict[str, Statistic]:
    """Every statistic of one set of judgements, each with a percentile bootstrap interval over items.

    All statistics share the resamples. A resample in which a statistic is undefined is left out of its interval.
    Source: Efron and Tibshirani 1993.

    Args:
        items, annotators: (M,) int, any codes; one judgement per (item, annotator).
        values: (M,) int, −3 … 3.
        resamples: bootstrap resamples; 0 gives no intervals.
    Returns:
        raw_with_ties, raw_without_ties, kappa_quadratic (strength, pooled over pairs of people), fleiss and
        alpha_nominal (preferred side), alpha_ordinal and alpha_interval (strength).
    """
    rows, people, strengths = _compared(items, annotators, values)
    count = int(rows.max()) + 1 if len(rows) else 0
    sides, scale = counts_of(rows, np.sign(strengths), SIDES, count), counts_of(rows, strengths, VALUES, count)
    statistics = {
        "raw_with_ties": raw_sums(sides, NOTHING_COMPARED),
        "raw_without_ties": raw_sums(sides[:, [0, 2]], NOTHING_DECIDED),
        "kappa_quadratic": pooled_kappa_sums(rows, people, strengths, count),
        "fleiss": fleiss_sums(sides),
        "alpha_nominal": alpha_sums(sides, SIDES, "nominal"),
        "alpha_ordinal": alpha_sums(scale, VALUES, "ordinal"),
        "alpha_interval": alpha_sums(scale, VALUES, "interval"),
    }
    if not count:
        return {name: Statistic(None, reason=NOTHING_COMPARED) for name in statistics}
    intervals = _bootstrap(statistics, count, resamples, seed)
    return {name: _statistic(sums, count, intervals.get(name)) for name, sums in statistics.items()}


def _compared(items: ArrayLike, annotators: ArrayLike, values: ArrayLike) -> tuple[Integers, Integers, Integers]:
    """The judgements of items with two or more; items and annotators are renumbered from 0."""
    _, rows, sizes = np.unique(np.asarray(items), return_inverse=True, return_counts=True)
    strengths = np.asarray(values, dtype=np.int64)
    assert rows.shape == strengths.shape == np.asarray(annotators).shape
    assert strengths.size == 0 or (strengths.min() >= VALUES[0] and strengths.max() <= VALUES[-1])
    kept = sizes[rows] >= 2
    _, rows = np.unique(rows[kept], return_inverse=True)
    _, people = np.unique(np.asarray(annotators)[kept], return_inverse=True)
    return rows, people, strengths[kept]


def _bootstrap(statistics: dict[str, Sums], count: int, resamples: int, seed: int) -> dict[str, tuple[float, float]]:
    rng = np.random.default_rng(seed)
    found: dict[str, list[Floats]] = {name: [] for name in statistics}
    rows = max(1, min(50, 2_000_000 // count))  # limits the memory of one draw
    for start in range(0, resamples, rows):
        drawn = rng.integers(count, size=(min(rows, resamples - start), count))
        offsets = np.arange(len(drawn))[:, None] * count
        times = np.bincount((drawn + offsets).ravel(), minlength=drawn.size).reshape(drawn.shape).astype(float)
        for name, sums in statistics.items():
            found[name].append(sums.finish(np.asarray((sums.added.T @ times.T).T)))
    intervals = {}
    for name, parts in found.items():
        values = np.concatenate(parts) if parts else np.zeros(0)
        values = values[~np.isnan(values)]
        if len(values):
            low, high = np.quantile(values, [0.025, 0.975])
            intervals[name] = (float(low), float(high))
    return intervals


def _statistic(sums: Sums, count: int, interval: tuple[float, float] | None) -> Statistic:
    value = sums.value()
    if value is None:
        return Statistic(None, items=count, reason=sums.reason)
    low, high = interval or (None, None)
    return Statistic(value, low, high, count)
