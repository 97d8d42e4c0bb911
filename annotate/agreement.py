"""How far annotators agree. Pure: numbers in, a number or None (undefined) out.

A *unit* is the list of the judgements of one item; units may have different lengths, and those with one judgement
say nothing about agreement. Undefined is None: where nothing is compared, or where everybody always gives the same
answer, so that chance alone would agree as often.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Level = Literal["nominal", "ordinal", "interval"]
Floats = NDArray[np.float64]


def raw_agreement(units: Sequence[Sequence[int]], *, ties: bool) -> float | None:
    """Share of pairs of judgements of one item that prefer the same side.

        Σ_units (agreeing pairs) / Σ_units (pairs)

    Args:
        units: judgements, of which the sign counts: negative, 0 (tie), positive.
        ties: True: two ties agree, a tie and a side disagree. False: pairs with a tie are left out.
    Returns:
        0 … 1; None where there is no pair.
    """
    pairs, same = 0, 0
    for unit in units:
        signs = np.sign(np.asarray(unit, dtype=np.int64))
        counts = np.array([(signs == side).sum() for side in ((-1, 0, 1) if ties else (-1, 1))])
        pairs += int(counts.sum() * (counts.sum() - 1) // 2)
        same += int((counts * (counts - 1) // 2).sum())
    return same / pairs if pairs else None


def cohen_kappa(
    first: Sequence[int], second: Sequence[int], *, weights: Literal["linear", "quadratic"] | None = None
) -> float | None:
    """Agreement of two annotators beyond chance.

        κ = 1 − Σ w_ij O_ij / Σ w_ij E_ij,   w_ij = 1[i≠j], |i−j| or (i−j)²

    Source: Cohen 1960, 1968 (weighted). Weights are distances of ranks among the values that occur, as in
    scikit-learn's `cohen_kappa_score`.

    Args:
        first, second: (N,) judgements of the same items by either annotator.
    Returns:
        κ ≤ 1; None without items, or where both always give one and the same answer.
    """
    if len(first) != len(second):
        raise ValueError(f"the annotators judged {len(first)} and {len(second)} items, not the same ones")
    values = np.unique(np.concatenate([np.asarray(first), np.asarray(second)]))
    observed = np.zeros((len(values), len(values)))
    np.add.at(observed, (np.searchsorted(values, first), np.searchsorted(values, second)), 1.0)
    ranks = np.arange(len(values))
    distance = np.abs(ranks[:, None] - ranks[None, :]).astype(float)
    cost = {None: (distance > 0).astype(float), "linear": distance, "quadratic": distance**2}[weights]
    if not len(first):
        return None
    expected = observed.sum(1)[:, None] * observed.sum(0)[None, :] / len(first)
    by_chance = float((cost * expected).sum())
    return 1 - float((cost * observed).sum()) / by_chance if by_chance > 0 else None


def fleiss_kappa(counts: Sequence[Sequence[int]] | NDArray[np.int64]) -> float | None:
    """Agreement beyond chance where every item has the same number n of judgements, by anybody.

        κ = (P̄ − P̄_e) / (1 − P̄_e),  P_i = Σ_k c_ik (c_ik − 1) / (n(n−1)),  P̄_e = Σ_k p_k²

    Source: Fleiss 1971.

    Args:
        counts: (N, K) how many judgements item i has in category k; each row sums to n ≥ 2.
    Returns:
        κ ≤ 1; None without items, or where only one category occurs.
    """
    table = np.asarray(counts, dtype=float)
    if not table.size:
        return None
    judgements = table.sum(1)
    if judgements[0] < 2 or np.any(judgements != judgements[0]):
        raise ValueError("Fleiss' kappa needs the same number (2 or more) of judgements for every item")
    n = judgements[0]
    observed = float(((table * (table - 1)).sum(1) / (n * (n - 1))).mean())
    by_chance = float(((table.sum(0) / table.sum()) ** 2).sum())
    return (observed - by_chance) / (1 - by_chance) if by_chance < 1 else None


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
    compared = [np.asarray(unit) for unit in units if len(unit) >= 2]
    if not compared:
        return None
    values = np.unique(np.concatenate(compared))
    coincidences = np.zeros((len(values), len(values)))
    for unit in compared:
        own = np.bincount(np.searchsorted(values, unit), minlength=len(values)).astype(float)
        coincidences += (np.outer(own, own) - np.diag(own)) / (len(unit) - 1)
    totals = coincidences.sum(1)
    squared = _squared_distance(values.astype(float), totals, level)
    by_chance = float((np.outer(totals, totals) * squared).sum())
    if by_chance == 0:
        return None
    return 1 - (totals.sum() - 1) * float((coincidences * squared).sum()) / by_chance


def _squared_distance(values: Floats, totals: Floats, level: Level) -> Floats:
    if level == "nominal":
        return 1.0 - np.eye(len(values))
    if level == "ordinal":
        values = np.cumsum(totals) - totals / 2  # the middle of each value's ranks
    difference: Floats = values[:, None] - values[None, :]
    return difference**2
