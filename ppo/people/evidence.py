"""What people's judgements of a training policy prove, valid at every look. Pure.

An outcome is 1 if a person preferred the policy's answer, 0 if they preferred the start policy's, and ½ for a tie.
Null hypothesis: at every check the policy is preferred at least half the time in random pairs, and at least two thirds
of the time in the pairs in which the reward model prefers it most.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

Floats = NDArray[np.float64]

AT_RANDOM, SUREST = 1 / 2, 2 / 3
"""Least win rates of a sound policy, in random pairs and in those of which the reward model is surest. A reward model
that is wrong about a third of the answers that it rewards most is no guide; sound ones of the tiny world are wrong
about one in ten (docs/experiments.md)."""
FRACTIONS = (0.1, 0.2, 0.3, 0.45, 0.6, 0.8)
"""Shares of the capital that are bet, mixed in equal parts: no single one suits every win rate."""
_CELLS = 400
"""Win rates that an interval is searched over."""
_LARGEST = 700.0
"""Of the logarithm of an e-value, so that it stays a finite float."""


@dataclass(frozen=True)
class Evidence:
    """Evidence against the null hypothesis."""

    value: float
    """The largest e-value so far. Under the null it ever reaches 1/α with probability α at most, however often one
    looks."""
    since: int
    """Number of the check from which on the evidence is strongest; 0 before the first judgement."""


def evidence(checks: Sequence[int], outcomes: Sequence[float], expected: Sequence[float], planned: int) -> Evidence:
    """Evidence against "at every check the policy is preferred as often as expected, or more often".

    Args:
        checks, outcomes, expected, planned: as in `e_values`.
    """
    if not outcomes:
        return Evidence(1.0, 0)
    totals, parts = e_values(checks, outcomes, expected, planned)
    best = int(np.argmax(totals))
    value = math.exp(min(max(float(totals[best]), 0.0), _LARGEST))
    return Evidence(value, int(np.argmax(parts[best])) + 1)


def e_values(
    checks: Sequence[int], outcomes: Sequence[float], expected: Sequence[float], planned: int
) -> tuple[Floats, Floats]:
    """Logarithm of the e-value after each judgement.

        E_n = Σ_j w_j  mean_f Π_{i ≤ n, check_i ≥ j} (1 + f (m_i − x_i) / (1 − m_i)),  w_j = (1/j) / Σ_{k ≤ planned} 1/k

    Each product is a capital that starts at check j and bets the share f against the policy. Under the null no factor
    has a conditional mean above 1, whatever the order of the judgements, so E is a nonnegative supermartingale with
    E_0 = 1, and Ville's inequality bounds P(sup E ≥ 1/α) by α. The starts j find a policy that was better at first.

    Source: Waudby-Smith and Ramdas 2024, arXiv:2010.09686 (betting on bounded means); Shin, Ramdas and Rinaldo 2022,
    arXiv:2203.03532 (mixtures over the time of a change). Differs from their e-detectors: the weights sum to 1, which
    bounds the probability of any false alarm in a run, not the mean time between them.

    Args:
        checks: (N,) number of each judged pair's check, 1 … planned; in the order in which the judgements were made.
        outcomes: (N,) x in [0, 1], one for each pair.
        expected: (N,) m, the least win rate of its kind of pair under the null: AT_RANDOM or SUREST.
        planned: checks of the whole run, fixed before its first judgement.
    Returns:
        totals: (N,) log E_n.
        parts: (N, J) its terms by start j, J the newest check with a judgement.
    """
    number, x, m = np.asarray(checks), np.asarray(outcomes, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    starts = np.arange(1, int(number.max()) + 1)  # (J,) later ones have their first capital, 1
    factors = np.log1p(np.array(FRACTIONS) * ((m - x) / (1 - m))[:, None])  # (N, F)
    counted = number[:, None] >= starts  # (N, J)
    wealth = np.cumsum(factors[:, None, :] * counted[:, :, None], axis=0)  # (N, J, F)
    per_start = logsumexp(wealth, axis=2) - math.log(len(FRACTIONS))  # (N, J)
    weights = 1 / np.arange(1, planned + 1)
    weights /= weights.sum()
    unused = float(weights[len(starts) :].sum())
    parts = per_start + np.log(weights[: len(starts)])  # (N, J)
    every = np.concatenate([parts, np.full((len(x), 1), math.log(unused) if unused > 0 else -np.inf)], axis=1)
    return logsumexp(every, axis=1), parts


def interval(outcomes: Sequence[float], alpha: float) -> tuple[float, float]:
    """Confidence interval of the win rate that holds at every look with probability 1 − α.

    Those win rates m against which the capital ½ mean_f Π (1 + f (x_i − m)/m) + ½ mean_f Π (1 − f (x_i − m)/(1 − m))
    is below 1/α.

    Source: Waudby-Smith and Ramdas 2024, arXiv:2010.09686, section 4 (hedged capital), with fixed shares f.

    Args:
        outcomes: (N,) in [0, 1].
        alpha: in (0, 1).
    Returns: (low, high); (0, 1) without an outcome.
    """
    edges = np.linspace(0.0, 1.0, _CELLS + 1)
    m, f = (edges[:-1] + edges[1:])[:, None] / 2, np.array(FRACTIONS)  # (M, 1), (F,)
    up, down = np.zeros((_CELLS, len(FRACTIONS))), np.zeros((_CELLS, len(FRACTIONS)))
    for x in outcomes:
        up += np.log1p(f * (x - m) / m)
        down += np.log1p(-f * (x - m) / (1 - m))
    capital = logsumexp(np.concatenate([up, down], axis=1), axis=1) - math.log(2 * len(FRACTIONS))  # (M,)
    held = np.flatnonzero(capital < math.log(1 / alpha))
    return float(edges[held[0]]), float(edges[held[-1] + 1])
