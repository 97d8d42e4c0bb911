"""The statistics of agreement on plain lists of judgements, one list (a *unit*) per item, for tests."""

from collections.abc import Sequence

import numpy as np

from annotate.statistics.agreement_sums import SIDES, Integers, Level, alpha_sums, counts_of, fleiss_sums, raw_sums


def unit_counts(units: Sequence[Sequence[int] | Integers], values: Sequence[int]) -> Integers:
    """(N, K) how often each unit has each value."""
    rows = np.repeat(np.arange(len(units)), [len(unit) for unit in units])
    flat = np.concatenate([np.asarray(unit, dtype=np.int64) for unit in units]) if len(units) else np.zeros(0, int)
    return counts_of(rows, flat, values, len(units))


def raw_agreement(units: Sequence[Sequence[int]], *, ties: bool) -> float | None:
    """Raw agreement of the signs; without `ties`, pairs with a tie are left out."""
    sides = unit_counts([np.sign(np.asarray(unit, dtype=np.int64)) for unit in units], SIDES)
    return raw_sums(sides if ties else sides[:, [0, 2]], "").value()


def fleiss_kappa(counts: Sequence[Sequence[int]] | Integers) -> float | None:
    """Fleiss' kappa of (N, K) counts; items with one judgement are left out."""
    table = np.asarray(counts, dtype=np.int64)
    return fleiss_sums(table[table.sum(1) >= 2]).value() if table.size else None


def krippendorff_alpha(units: Sequence[Sequence[int]], *, level: Level) -> float | None:
    """Krippendorff's alpha on the values that occur."""
    compared = [unit for unit in units if len(unit) >= 2]
    values = sorted({int(value) for unit in compared for value in unit})
    return alpha_sums(unit_counts(compared, values), values, level).value() if compared else None
