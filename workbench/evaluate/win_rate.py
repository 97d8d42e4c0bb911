"""Win rates of one policy against another on the same prompts. Pure: knows scores, lengths and prompts.

A judge (the gold reward, a reward model, a person) gives each answer a score; the higher score wins.
Shapes: G = prompts, N = answers, C = comparisons.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from workbench.evaluate.statistics import Floats, bootstrap_interval, wilson_interval

RIDGE = 1e-3
"""Penalty ½·RIDGE·slope² of the length model: keeps the slope finite if length decides every comparison."""


@dataclass(frozen=True)
class Comparisons:
    """Every answer of one policy compared with every answer of the other to the same prompt."""

    outcomes: Floats
    """(C,) 1 won, ½ tied, 0 lost."""
    length_differences: Floats
    """(C,) own length − the other's, in any unit."""
    prompts: list[str]
    """(C,) prompt ids."""
    weights: Floats
    """(C,) 1 / number of comparisons of the prompt, so that prompts weigh the same."""


@dataclass(frozen=True)
class WinRate:
    """How often one policy's answer is preferred; a tie counts ½."""

    mean: float
    low: float
    """Bootstrap over prompts, 2.5 %."""
    high: float
    """Bootstrap over prompts, 97.5 %."""
    wilson_low: float
    """Wilson's interval with each prompt as one trial."""
    wilson_high: float
    length_controlled: float
    """Win rate at equal length; see `length_controlled_win_rate`."""
    ties: float
    """Share of comparisons that tie."""
    count: int
    """Comparisons (C)."""
    prompts: int
    """Prompts (G)."""
    seed: int
    """Seeds the bootstrap."""


def outcomes(own: ArrayLike, other: ArrayLike, *, tie: float = 1e-9) -> Floats:
    """1 if `own` is higher, 0 if `other` is, ½ if they differ by at most `tie`.

    Args:
        own, other: broadcastable float arrays of scores.
        tie: half-width of a tie, in the score's unit.
    """
    gaps = np.asarray(own, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    return np.where(np.abs(gaps) <= tie, 0.5, (gaps > 0).astype(np.float64))


def compare(own: Sequence[tuple[str, float, float]], other: Sequence[tuple[str, float, float]]) -> Comparisons:
    """Pair every answer of `own` with every answer of `other` to the same prompt.

    Args:
        own, other: (prompt id, score, length) of each answer. Prompts that only one side answered are left out.
    """
    theirs: dict[str, list[tuple[float, float]]] = {}
    for prompt, score, length in other:
        theirs.setdefault(prompt, []).append((score, length))
    mine = [answer for answer in own if answer[0] in theirs]
    answers = Counter(prompt for prompt, _, _ in mine)
    pairs = [(prompt, score, length, *rival) for prompt, score, length in mine for rival in theirs[prompt]]
    assert pairs, "the two policies share no prompt"
    table = np.array([pair[1:] for pair in pairs], dtype=np.float64)
    return Comparisons(
        outcomes=outcomes(table[:, 0], table[:, 2]),
        length_differences=table[:, 1] - table[:, 3],
        prompts=[pair[0] for pair in pairs],
        weights=np.array([1 / (answers[pair[0]] * len(theirs[pair[0]])) for pair in pairs]),
    )


def win_rate(comparisons: Comparisons, *, seed: int, resamples: int = 2000) -> WinRate:
    """Win rate with a bootstrap over prompts, Wilson's interval and the length-controlled value.

        win rate = 1/G · Σ_g mean of the prompt's outcomes

    Args:
        comparisons: from `compare`.
        seed: of the bootstrap.
        resamples: of the bootstrap.
    """
    shares: dict[str, float] = {}
    for prompt, outcome, weight in zip(comparisons.prompts, comparisons.outcomes, comparisons.weights, strict=True):
        shares[prompt] = shares.get(prompt, 0.0) + float(outcome * weight)
    by_prompt = np.clip(list(shares.values()), 0.0, 1.0)
    estimate = bootstrap_interval(by_prompt, seed=seed, resamples=resamples)
    wilson_low, wilson_high = wilson_interval(float(by_prompt.sum()), len(by_prompt))
    return WinRate(
        mean=estimate.mean,
        low=estimate.low,
        high=estimate.high,
        wilson_low=wilson_low,
        wilson_high=wilson_high,
        length_controlled=length_controlled_win_rate(
            comparisons.outcomes, comparisons.length_differences, weights=comparisons.weights
        ),
        ties=float(np.average(comparisons.outcomes == 0.5, weights=comparisons.weights)),
        count=len(comparisons.outcomes),
        prompts=len(by_prompt),
        seed=seed,
    )


def length_controlled_win_rate(
    outcomes: ArrayLike, length_differences: ArrayLike, *, weights: ArrayLike | None = None
) -> float:
    r"""Win rate that a logistic model predicts for answers of equal length.

        P(win) = σ(a + b·tanh(Δlength / sd)),   read at Δlength = 0: σ(a)

    Source: Dubois et al. 2024, arXiv:2404.04475. Differs from AlpacaEval: no term for a prompt's difficulty; sd is
    taken around 0 (√mean Δ²), so that a difference of 0 stays 0.

    Args:
        outcomes: (C,) in {0, ½, 1}; a tie enters as half a win and half a loss.
        length_differences: (C,) own − other, any unit.
        weights: (C,) ≥ 0; None: equal weights.
    Returns:
        in [0, 1]; the plain win rate if all lengths or all outcomes are equal.
    """
    won, difference = np.asarray(outcomes, dtype=np.float64), np.asarray(length_differences, dtype=np.float64)
    weight = np.ones_like(won) if weights is None else np.asarray(weights, dtype=np.float64)
    plain = float(np.average(won, weights=weight))
    spread = float(np.sqrt(np.average(difference**2, weights=weight)))
    if spread == 0 or plain in (0.0, 1.0):
        return plain
    from sklearn.linear_model import LogisticRegression  # a second to import, and every phase imports this file

    feature = np.tile(np.tanh(difference / spread), 2)[:, None]
    label = np.repeat([1, 0], won.size)
    model = LogisticRegression(C=1 / RIDGE, tol=1e-10, max_iter=1000)
    model.fit(feature, label, sample_weight=np.concatenate([won, 1 - won]) * np.tile(weight, 2))
    return float(expit(model.intercept_[0]))
