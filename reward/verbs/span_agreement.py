"""How far a score's token shares point to the passages that people marked.

Shapes: A = answers, T = tokens of an answer without its end token.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.evaluate.statistics import Estimate, Floats, bootstrap_interval

SHIFTS = 400
"""Random shifts of the marks that the control is computed from."""


@dataclass(frozen=True)
class MarkedShares:
    """The shares of an answer's tokens, and which tokens people marked."""

    group: str
    """The prompt: answers to one prompt are resampled together."""
    shares: Floats
    """(T,) what each token adds to the score."""
    marked: NDArray[np.bool_]
    """(T,) at least one True and one False."""

    @property
    def auc(self) -> float:
        """Probability that a marked token adds less to the score than another token."""
        return lower_auc(self.shares, self.marked)


@dataclass(frozen=True)
class Agreement:
    """Mean over answers, with what marks in random places would give."""

    auc: Estimate
    """Mean of `MarkedShares.auc`: 1 if all marked tokens add less than all others, ½ if the marks say nothing."""
    control: tuple[float, float, float]
    """Mean, 2.5 % and 97.5 % quantile with each answer's marks shifted around its end by a random number of tokens."""


def lower_auc(shares: Floats, marked: NDArray[np.bool_]) -> float:
    """Probability that a marked token's share is below another token's, a tie counting ½.

        mean over (m marked, o other) of [share_m < share_o] + ½ [share_m = share_o]

    Source: Mann and Whitney 1947; it is the area under the ROC curve of −share as a detector of marked tokens.

    Args:
        shares: (T,) float.
        marked: (T,) bool, at least one True and one False.
    """
    difference = shares[~marked][None, :] - shares[marked][:, None]
    return float((np.sign(difference).mean() + 1) / 2)


def measure(answers: Sequence[MarkedShares], *, seed: int) -> Agreement:
    """The agreement over answers, with a 95 % bootstrap interval over prompts, and its control.

    Args:
        answers: (A,) at least one.
        seed: of the bootstrap and of the shifts.
    """
    auc = bootstrap_interval([answer.auc for answer in answers], [answer.group for answer in answers], seed=seed)
    rng = np.random.default_rng(seed)
    shifted = np.zeros(SHIFTS)
    for answer in answers:
        steps = rng.integers(len(answer.shares), size=SHIFTS)
        shifted += [lower_auc(answer.shares, np.roll(answer.marked, step)) for step in steps.tolist()]
    shifted /= len(answers)
    low, high = np.quantile(shifted, [0.025, 0.975])
    return Agreement(auc, (float(shifted.mean()), float(low), float(high)))


def marked_tokens(ends: Sequence[int], passages: Sequence[tuple[int, int]]) -> NDArray[np.bool_]:
    """Which tokens overlap a marked passage.

    Args:
        ends: (T,) where each token ends in the text; it begins where the one before ends.
        passages: [start, end) in the same unit.
    Returns:
        (T,) bool.
    """
    last = np.asarray(ends)
    first = np.concatenate(([0], last[:-1]))
    found = np.zeros(len(last), dtype=bool)
    for start, end in passages:
        found |= (first < end) & (last > start)
    return found
