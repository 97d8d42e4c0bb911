"""Statistics of agreement, each written as a function of sums over items. Pure.

A bootstrap over items is then one matrix product: how often each item was drawn, times what each item adds to the sums.

Shapes: N = items, K = values, F = sums, R = resamples, Q = pairs of people.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from workbench.evaluate.statistics import Floats

Level = Literal["nominal", "ordinal", "interval"]
Integers = NDArray[np.int64]

VALUES = (-3, -2, -1, 0, 1, 2, 3)
SIDES = (-1, 0, 1)
SHARED = 5
"""Items that two people must both have judged before their pair counts in the pooled kappa."""
NOTHING_COMPARED = "no item has two judgements"
NOTHING_DECIDED = "no item has two judgements that are not ties"
NO_VARIATION = "everybody always gave the same answer, so chance alone would agree as often"
TOO_FEW_SHARED = f"no two people have judged {SHARED} items in common"


@dataclass(frozen=True)
class Sums:
    """What each item adds to the sums of a statistic, and the statistic as a function of the sums."""

    added: Any
    """(N, F) dense or sparse."""
    finish: Callable[[Floats], Floats]
    """(R, F) sums → (R,) values, NaN where undefined."""
    reason: str = NO_VARIATION

    def value(self) -> float | None:
        """The statistic of all items; None if it is undefined."""
        if not self.added.shape[0]:
            return None
        found = float(self.finish(np.asarray(self.added.sum(axis=0), dtype=float).reshape(1, -1))[0])
        return None if np.isnan(found) else found


def counts_of(rows: Integers, values: Integers, scale: Sequence[int], count: int) -> Integers:
    """(N, K) how often each item has each value of the scale."""
    columns = np.searchsorted(np.asarray(scale), values)
    size = len(scale)
    return np.bincount(rows * size + columns, minlength=count * size).reshape(count, size).astype(np.int64)


def raw_sums(counts: Integers, reason: str) -> Sums:
    """Share of the pairs of judgements of one item that agree.

        Σ_i Σ_k c_ik (c_ik − 1) / Σ_i n_i (n_i − 1)

    Args:
        counts: (N, K) how many judgements of item i prefer side k; without the column of ties, ties are left out.
        reason: why the statistic is undefined if there is no pair.
    """
    sizes = counts.sum(1)
    added = np.stack([(counts * (counts - 1)).sum(1) / 2, sizes * (sizes - 1) / 2], axis=1)
    return Sums(added, lambda sums: ratio(sums[:, 0], sums[:, 1]), reason)


def fleiss_sums(counts: Integers) -> Sums:
    """Agreement beyond chance for several judgements per item, by anybody.

        κ = (P̄ − P̄_e) / (1 − P̄_e),  P_i = Σ_k c_ik (c_ik − 1) / (n_i (n_i − 1)),  P̄_e = Σ_k (Σ_i c_ik / Σ_i n_i)²

    Source: Fleiss 1971, with n judgements of every item; here n_i ≥ 2 of item i (Fleiss, Levin and Paik 2003, ch. 18).

    Args:
        counts: (N, K) how many judgements item i has in category k.
    """
    sizes = counts.sum(1)
    observed = (counts * (counts - 1)).sum(1) / np.maximum(sizes * (sizes - 1), 1)
    added = np.column_stack([np.ones(len(counts)), observed, counts])

    def finish(sums: Floats) -> Floats:
        shares = sums[:, 2:] / sums[:, 2:].sum(1, keepdims=True)
        by_chance = (shares**2).sum(1)
        varied = (sums[:, 2:] > 0).sum(1) > 1
        return ratio(sums[:, 1] / sums[:, 0] - by_chance, np.where(varied, 1 - by_chance, 0))

    return Sums(added, finish)


def alpha_sums(counts: Integers, values: Sequence[int], level: Level) -> Sums:
    """Agreement beyond chance for any number of judgements per item (Krippendorff's alpha).

        α = 1 − (n − 1) Σ_ck o_ck δ²_ck / Σ_ck n_c n_k δ²_ck

    with o_ck the coincidences of values c and k within items (an item with m judgements weighs its pairs 1/(m−1)),
    n_c = Σ_k o_ck, n = Σ_c n_c, and δ² the distance: 1[c≠k] (nominal), (c − k)² (interval), or for ranks
    (Σ_{g=c..k} n_g − (n_c + n_k)/2)² (ordinal).

    Source: Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability".

    Args:
        counts: (N, K) how many of the ≥ 2 judgements of an item have value k.
        values: K values, ascending.
    """
    size = len(values)
    weights = 1 / np.maximum(counts.sum(1) - 1, 1)
    pairs = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(size, dtype=np.int64)
    added = (pairs * weights[:, None, None]).reshape(len(counts), size * size)
    scale = np.asarray(values, dtype=float)

    def finish(sums: Floats) -> Floats:
        coincidences = sums.reshape(-1, size, size)
        totals = coincidences.sum(2)
        squared = _squared_distance(scale, totals, level)
        observed = (coincidences * squared).sum((1, 2))
        by_chance = (totals[:, :, None] * totals[:, None, :] * squared).sum((1, 2))
        by_chance = np.where((totals > 1e-9).sum(1) > 1, by_chance, 0)
        return 1 - ratio((totals.sum(1) - 1) * observed, by_chance)

    return Sums(added, finish)


def _squared_distance(values: Floats, totals: Floats, level: Level) -> Floats:
    """(R or 1, K, K)."""
    if level == "nominal":
        return 1.0 - np.eye(len(values))[None]
    # Ordinal: distance between the mean ranks of the values.
    points = np.cumsum(totals, axis=1) - totals / 2 if level == "ordinal" else values[None]
    difference: Floats = points[:, :, None] - points[:, None, :]
    return difference**2


def pooled_kappa_sums(rows: Integers, people: Integers, values: Integers, count: int) -> Sums:
    """Quadratic weighted kappa, pooled over the pairs of people that share enough items.

        κ = 1 − Σ_q D_q / Σ_q E_q,   D_q = Σ_i (x_i − y_i)²,   E_q = Σ x² + Σ y² − 2 Σx Σy / n_q

    A single pair of people gives Cohen's quadratic weighted kappa on the scale −3 … 3.
    Source: De Vries et al. 2008 (pooled kappa), with weights.
    """
    left, right = _pairs_within(rows)
    swap = people[left] > people[right]
    left, right = np.where(swap, right, left), np.where(swap, left, right)
    codes = people[left] * (int(people.max(initial=0)) + 1) + people[right]
    _, pair, sizes = np.unique(codes, return_inverse=True, return_counts=True)
    kept = sizes[pair] >= SHARED
    _, pair = np.unique(pair[kept], return_inverse=True)
    pairs = int(pair.max(initial=-1)) + 1
    x, y = values[left][kept].astype(float), values[right][kept].astype(float)
    each = np.stack([np.ones_like(x), x, y, x * x + y * y, (x - y) ** 2])  # (5, …)
    columns = (pair[None, :] + pairs * np.arange(5)[:, None]).ravel()
    shape = (count, 5 * pairs)
    added = sparse.csr_array((each.ravel(), (np.tile(rows[left][kept], 5), columns)), shape=shape)

    def finish(sums: Floats) -> Floats:
        shared, first, second, squares, apart = sums.reshape(len(sums), 5, pairs).transpose(1, 0, 2)
        expected = squares - 2 * first * second / np.maximum(shared, 1)
        by_chance = expected.sum(1)
        return 1 - ratio(apart.sum(1), np.where(by_chance > 1e-9, by_chance, 0))

    return Sums(added, finish, NO_VARIATION if pairs else TOO_FEW_SHARED)


def _pairs_within(rows: Integers) -> tuple[Integers, Integers]:
    """Indices (left, right) of every two judgements of one item."""
    order = np.argsort(rows, kind="stable")
    sizes = np.bincount(rows)
    starts = np.cumsum(sizes) - sizes
    lefts, rights = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for size in np.unique(sizes[sizes >= 2]):
        first, second = np.triu_indices(int(size), 1)
        base = starts[sizes == size][:, None]
        lefts.append((base + first).ravel())
        rights.append((base + second).ravel())
    return order[np.concatenate(lefts)], order[np.concatenate(rights)]


def ratio(over: Floats, under: Floats) -> Floats:
    """over / under; NaN where under is 0."""
    return np.divide(over, under, out=np.full(np.shape(under), np.nan), where=under > 0)
