"""Bradley-Terry ratings of several runs from comparisons of two. Pure: numbers in, numbers out.

Shapes: K = runs, G = prompts, R = resamples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from workbench.evaluate.statistics import Floats

ELO = float(400 / np.log(10))
"""Elo points per unit of log-odds."""
VIRTUAL_TIES = 1.0


@dataclass(frozen=True)
class Rating:
    """A run's rating."""

    value: float
    """Log-odds; the mean over the runs is 0."""
    low: float
    """Bootstrap over prompts, 2.5 %."""
    high: float
    """Bootstrap over prompts, 97.5 %."""

    @property
    def elo(self) -> "Rating":
        """The same in Elo points, the unit that people are shown."""
        return Rating(self.value * ELO, self.low * ELO, self.high * ELO)


def bradley_terry(wins: ArrayLike, *, virtual_ties: float = 0.0, iterations: int = 100) -> Floats:
    """Maximum-likelihood ratings of the comparisons.

        P(i beats j) = σ(r_i − r_j),   Σ_i r_i = 0

    by Newton's method. Source: Bradley and Terry 1952; ties as half a win for either.

    Args:
        wins: (…, K, K) float, how often run i was preferred to run j (ties ½).
        virtual_ties: ≥ 0, ties added between every two runs; they make the rating of a run that always won finite.
        iterations: steps of Newton's method, at most.
    Returns:
        (…, K) ratings; NaN if they are not finite (a run, or a group of runs, never lost to the others).
    """
    table = np.asarray(wins, dtype=float)
    size = table.shape[-1]
    assert table.shape[-2:] == (size, size)
    table = (table + virtual_ties / 2) * (1 - np.eye(size))
    games = table + table.swapaxes(-1, -2)
    ratings = np.zeros(table.shape[:-1])
    centre = np.full((size, size), 1 / size)
    for _ in range(iterations):
        chance = 1 / (1 + np.exp(np.clip(ratings[..., None, :] - ratings[..., :, None], -50, 50)))
        gradient = table.sum(-1) - (games * chance).sum(-1)
        curvature = games * chance * (1 - chance)
        hessian = np.eye(size) * curvature.sum(-1)[..., None] - curvature + centre
        step = np.clip(np.linalg.solve(hessian + 1e-12 * np.eye(size), gradient[..., None])[..., 0], -2, 2)
        ratings = ratings + step
        if np.abs(step).max(initial=0) < 1e-12:
            break
    ratings = ratings - ratings.mean(-1, keepdims=True)
    return np.where((np.abs(ratings) < 20).all(-1, keepdims=True), ratings, np.nan)


def rate(
    wins_by_prompt: ArrayLike, *, seed: int, resamples: int = 1000, virtual_ties: float = VIRTUAL_TIES
) -> list[Rating]:
    """Ratings of all runs, with a percentile bootstrap interval over prompts.

    Args:
        wins_by_prompt: (G, K, K) float, per prompt how often i was preferred to j (ties ½).
        virtual_ties: see `bradley_terry`; they are not resampled.
    """
    table = np.asarray(wins_by_prompt, dtype=float)
    prompts, size = table.shape[0], table.shape[-1]
    values = bradley_terry(table.sum(0), virtual_ties=virtual_ties)
    drawn = np.random.default_rng(seed).multinomial(prompts, np.full(prompts, 1 / prompts), size=resamples)
    again = (drawn.astype(float) @ table.reshape(prompts, size * size)).reshape(resamples, size, size)
    low, high = np.nanquantile(bradley_terry(again, virtual_ties=virtual_ties), [0.025, 0.975], axis=0)
    return [Rating(*map(float, row)) for row in zip(values, low, high, strict=True)]
