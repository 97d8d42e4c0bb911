"""Simulated annotators, who compare two answers by the gold reward with noise. Their names say that they are simulated.

    P(right preferred) = (1 − random_rate) σ((gold_right − gold_left) / tau) + random_rate / 2

Source: Bradley & Terry 1952; noise per annotator and random flips as in Dubois et al. 2023 (arXiv 2305.14387).
Pure numpy.
"""

from dataclasses import dataclass

import numpy as np

TIE_BELOW = 0.03
"""A noisy margin below this is judged a tie."""
STRENGTH_ABOVE = (0.25, 0.6)
"""Noisy margins above which a judgement is at least "better" (2) and "much better" (3)."""


@dataclass(frozen=True)
class SimulatedAnnotator:
    """One simulated annotator."""

    name: str
    tau: float
    """Scale of the logistic noise on the difference of gold rewards."""
    random_rate: float
    """Share of judgements made at random, 0 … 1."""

    def judge(self, gold_left: float, gold_right: float, rng: np.random.Generator) -> int:
        """Judge one pair: −3 (left much better) … 0 (tie) … 3 (right much better)."""
        if rng.random() < self.random_rate:
            return int(rng.choice((-3, -2, -1, 1, 2, 3)))
        margin = gold_right - gold_left + float(rng.logistic(0.0, self.tau))
        size = abs(margin)
        if size < TIE_BELOW:
            return 0
        strength = 1 + sum(size > threshold for threshold in STRENGTH_ABOVE)
        return strength if margin > 0 else -strength


SIMULATED: tuple[SimulatedAnnotator, ...] = (
    SimulatedAnnotator("simulated-1", 0.12, 0.02),
    SimulatedAnnotator("simulated-2", 0.15, 0.05),
    SimulatedAnnotator("simulated-3", 0.15, 0.10),
    SimulatedAnnotator("simulated-4", 0.18, 0.05),
    SimulatedAnnotator("simulated-careless", 0.20, 0.45),
)
"""Four attentive annotators and one who judges at random almost half of the time."""
