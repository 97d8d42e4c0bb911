"""What is examined: a scoring function, and the held-out pairs with its scores. Knows no model and no run."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from reward.passport.measures import Floats
from workbench.data.records import Message, Preference
from workbench.evaluate.metrics import words
from workbench.evaluate.statistics import Estimate, bootstrap_interval, share_interval

MemberScores = Callable[[Sequence[Sequence[Message]], Sequence[str]], Floats]
"""(prompts, responses) → (N, K) normalised scores of each member."""


@dataclass(frozen=True)
class Subject:
    """What is examined."""

    score: MemberScores
    gain: float
    """Normalised score per raw score: Bradley-Terry probabilities are of raw scores."""

    def mean(self, prompts: Sequence[Sequence[Message]], responses: Sequence[str]) -> Floats:
        """(N,) the mean score over the members."""
        if not responses:
            return np.zeros(0)
        scores: Floats = self.score(prompts, responses).mean(axis=1)
        return scores


@dataclass(frozen=True)
class Heldout:
    """The held-out pairs with the scores of both sides."""

    pairs: Sequence[Preference]
    chosen: Floats
    """(N, K)."""
    rejected: Floats
    """(N, K)."""
    gain: float

    @functools.cached_property
    def groups(self) -> list[str]:
        """(N,) prompts."""
        return [pair.group for pair in self.pairs]

    @functools.cached_property
    def gaps(self) -> Floats:
        """(N,) in deviations of the scores."""
        difference: Floats = (self.chosen - self.rejected).mean(axis=1)
        return difference

    @functools.cached_property
    def lengths(self) -> tuple[Floats, Floats]:
        """Words of the chosen and of the rejected answers, (N,) each."""
        return (
            np.array([len(words(pair.chosen_text)) for pair in self.pairs], dtype=np.float64),
            np.array([len(words(pair.rejected_text)) for pair in self.pairs], dtype=np.float64),
        )


def mean_of(values: Floats, groups: Sequence[str], seed: int) -> Estimate | None:
    """Mean with its interval over prompts; None where there is nothing."""
    return bootstrap_interval(values, groups, seed=seed) if len(values) else None


def share_of(values: Floats, groups: Sequence[str]) -> Estimate | None:
    """Share with its interval over prompts; None where there is nothing."""
    return share_interval(values, groups) if len(values) else None
