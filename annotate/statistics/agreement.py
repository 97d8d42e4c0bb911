"""How far annotators agree. Pure: numbers in, numbers out; what has no meaning is undefined, with a reason.

A *unit* is the list of the judgements of one item: strengths −3 (first answer much better) … 3; a tie is 0. Units may
have different lengths, and those with one judgement say nothing about agreement. Undefined is None: where nothing is
compared, or where everybody always gives the same answer, so that chance alone would agree as often.

Shapes: M = judgements, N = items with two judgements or more, K = values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from annotate.statistics.agreement_sums import (
    NOTHING_COMPARED,
    NOTHING_DECIDED,
    SIDES,
    VALUES,
    Floats,
    Integers,
    Level,
    Sums,
    alpha_sums,
    counts_of,
    fleiss_sums,
    pooled_kappa_sums,
    raw_sums,
    unit_counts,
)


@dataclass(frozen=True)
class Statistic:
    """A number with its interval, or the reason why there is none."""

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

    All of them see the same resamples. A resample in which a statistic is undefined is left out of its interval.
    Source: Efron and Tibshirani 1993.

    Args:
        items, annotators: (M,) int, any codes; one judgement for each (item, annotator).
        values: (M,) int, −3 … 3.
        resamples: of the bootstrap; 0 gives no intervals.
    Returns:
        raw_with_ties, raw_without_ties, kappa_quadratic (of strength, pooled over pairs of people), fleiss and
        alpha_nominal (of the side preferred), alpha_ordinal and alpha_interval (of strength).
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


def raw_agreement(units: Sequence[Sequence[int]], *, ties: bool) -> float | None:
    """Share of pairs of judgements of one item that prefer the same side.

        Σ_units (agreeing pairs) / Σ_units (pairs)

    Args:
        units: judgements, of which the sign counts: negative, 0 (tie), positive.
        ties: True: two ties agree, a tie and a side disagree. False: pairs with a tie are left out.
    Returns:
        0 … 1; None where there is no pair.
    """
    sides = unit_counts([np.sign(np.asarray(unit, dtype=np.int64)) for unit in units], SIDES)
    return raw_sums(sides if ties else sides[:, [0, 2]], "").value()


def cohen_kappa(
    first: Sequence[int],
    second: Sequence[int],
    *,
    weights: Literal["linear", "quadratic"] | None = None,
    values: Sequence[int] | None = None,
) -> float | None:
    """Agreement of two annotators beyond chance.

        κ = 1 − Σ w_ij O_ij / Σ w_ij E_ij,   w_ij = 1[i≠j], |i−j| or (i−j)²

    Source: Cohen 1960, 1968 (weighted). Weights are distances of ranks among `values`, as in scikit-learn's
    `cohen_kappa_score(labels=values)`.

    Args:
        first, second: (N,) judgements of the same items by either annotator.
        values: the scale; None: the values that occur.
    Returns:
        κ ≤ 1; None without items, or where both always give one and the same answer.
    """
    if len(first) != len(second):
        raise ValueError(f"the annotators judged {len(first)} and {len(second)} items, not the same ones")
    if not len(first):
        return None
    scale = np.unique(np.concatenate([np.asarray(first), np.asarray(second)]) if values is None else np.asarray(values))
    observed = np.zeros((len(scale), len(scale)))
    np.add.at(observed, (np.searchsorted(scale, first), np.searchsorted(scale, second)), 1.0)
    ranks = np.arange(len(scale))
    distance = np.abs(ranks[:, None] - ranks[None, :]).astype(float)
    cost = {None: (distance > 0).astype(float), "linear": distance, "quadratic": distance**2}[weights]
    expected = observed.sum(1)[:, None] * observed.sum(0)[None, :] / len(first)
    by_chance = float((cost * expected).sum())
    return 1 - float((cost * observed).sum()) / by_chance if by_chance > 0 else None


def fleiss_kappa(counts: Sequence[Sequence[int]] | Integers) -> float | None:
    """Agreement beyond chance for several judgements an item, by anybody.

        κ = (P̄ − P̄_e) / (1 − P̄_e),  P_i = Σ_k c_ik (c_ik − 1) / (n_i (n_i − 1)),  P̄_e = Σ_k (Σ_i c_ik / Σ_i n_i)²

    Source: Fleiss 1971, where every item has the same number n of judgements; items with fewer than two are left out,
    and otherwise each item's own n_i is used (Fleiss, Levin and Paik 2003, ch. 18).

    Args:
        counts: (N, K) how many judgements item i has in category k.
    Returns:
        κ ≤ 1; None without items, or where only one category occurs.
    """
    table = np.asarray(counts, dtype=np.int64)
    return fleiss_sums(table[table.sum(1) >= 2]).value() if table.size else None


def krippendorff_alpha(units: Sequence[Sequence[int]], *, level: Level) -> float | None:
    """Agreement beyond chance for any number of judgements an item.

        α = 1 − (n − 1) Σ_ck o_ck δ²_ck / Σ_ck n_c n_k δ²_ck

    with o_ck the coincidences of values c and k within units (each unit of m judgements weighs its pairs 1/(m−1)),
    n_c = Σ_k o_ck, n = Σ_c n_c, and δ² the distance: 1[c≠k] (nominal), (c − k)² (interval), or for ranks
    (Σ_{g=c..k} n_g − (n_c + n_k)/2)² (ordinal).

    Source: Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability".

    Returns:
        α ≤ 1; None without two judgements of one item, or where only one value occurs.
    """
    compared = [unit for unit in units if len(unit) >= 2]
    values = sorted({int(value) for unit in compared for value in unit})
    return alpha_sums(unit_counts(compared, values), values, level).value() if compared else None


def _compared(items: ArrayLike, annotators: ArrayLike, values: ArrayLike) -> tuple[Integers, Integers, Integers]:
    """The judgements of items that have two or more, items and annotators numbered from 0."""
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
    rows = max(1, min(50, 2_000_000 // count))  # bounds the memory of one draw
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
