"""How a reward model scores the answers that PPO would start from. Pure; knows scores, no model and no files.

Shapes: G = prompts, K = answers of the start policy to each of them.
"""

from dataclasses import dataclass

import numpy as np

from workbench.evaluate.best_of import best_of_kl, best_of_values
from workbench.evaluate.statistics import Estimate, Floats, bootstrap_interval

ANSWERS = 16
"""Answers to each prompt."""
POWERS = (1, 2, 4, 8, 16)
"""Numbers of answers that the best is taken from."""


@dataclass(frozen=True)
class BestOfPoint:
    """The best of n answers of the start run, as the reward model picks it."""

    n: int
    kl: float
    """KL of best-of-n to the start run, nats."""
    own: float | None
    """Rise of the model's own score over an average answer, in standard deviations of its scores."""
    judge: float | None
    """The same by the judge's score, in standard deviations of the judge's; None without a judge."""


@dataclass(frozen=True)
class SampleFinding:
    """How the model scores answers that the start run samples."""

    prompts: int
    answers: int
    """Answers per prompt."""
    teaches: Estimate
    """Share of the scores' variance that lies within prompts."""
    own_slope: Estimate
    """Rise of its own score per √nat of KL, if it picks the best of n."""
    judge_slope: Estimate | None
    """The same by the judge's score; None without a judge."""
    best_of: list[BestOfPoint]


def sample_finding(scores: Floats, judged: Floats | None, *, seed: int) -> SampleFinding:
    """What the samples show.

    Args:
        scores: (G, K) of the reward model.
        judged: (G, K) of a judge; None without one.
        seed: of the bootstraps over prompts.
    """
    sides = {"own": scores} | ({} if judged is None else {"judge": judged})
    curves = {name: best_of_rises(scores, values) for name, values in sides.items()}
    slopes = {name: bootstrap_interval(best_of_slopes(curve), seed=seed) for name, curve in curves.items()}
    points = [
        BestOfPoint(
            n,
            best_of_kl(n),
            *(float(curves[name][index].mean()) if name in curves else None for name in ("own", "judge")),
        )
        for index, n in enumerate(POWERS)
    ]
    return SampleFinding(
        prompts=scores.shape[0],
        answers=scores.shape[1],
        teaches=teaching_share(scores, seed=seed),
        own_slope=slopes["own"],
        judge_slope=slopes.get("judge"),
        best_of=points,
    )


def teaching_share(scores: Floats, *, seed: int, resamples: int = 2000) -> Estimate:
    """Share of the scores' variance that lies within prompts, with a percentile bootstrap over prompts.

        Σ_gk (s_gk − s̄_g)² / Σ_gk (s_gk − s̄)²;   0 if all scores are equal

    Source: the policy gradient is small if the scores of one prompt's answers hardly vary: Razin et al. 2025,
    arXiv:2503.15477, theorem 1. Differs from their variance by the denominator, so that models of any scale compare.

    Args:
        scores: (G, K).
        seed, resamples: of the bootstrap.
    """
    within, means = scores.var(axis=1), scores.mean(axis=1)
    drawn = np.random.default_rng(seed).integers(len(means), size=(resamples, len(means)))
    low, high = np.quantile(_within_share(within[drawn], means[drawn]), [0.025, 0.975])
    share = float(_within_share(within[None], means[None])[0])
    return Estimate(share, float(low), float(high), scores.size, len(means))


def _within_share(within: Floats, means: Floats) -> Floats:
    """(M,) shares of M sets of prompts: (M, G) variances within prompts, and (M, G) their means."""
    inside = within.mean(axis=1)
    total = inside + means.var(axis=1)
    shares: Floats = np.divide(inside, total, out=np.zeros_like(inside), where=total > 0)
    return shares


def best_of_rises(scores: Floats, values: Floats) -> Floats:
    """(len(POWERS), G) value of the answer that scores highest among n, less that of an average answer.

    Args:
        scores: (G, K) of the reward model that picks, K ≥ 16.
        values: (G, K) of the yardstick.
    """
    found: Floats = np.stack([best_of_values(scores, values, n) for n in POWERS]) - values.mean(axis=1)
    return found


def best_of_slopes(rises: Floats) -> Floats:
    """(G,) slope of a prompt's rise over √KL, by least squares through the origin.

        Σ_n d_n r_n / Σ_n d_n²,   d_n = √(log n − (n − 1)/n)

    Source: Gao et al. 2022, arXiv:2210.10760, fit R = d (α − β d) to best-of-n; here α alone, for few n.

    Args:
        rises: (len(POWERS), G); see `best_of_rises`.
    """
    roots = np.sqrt([best_of_kl(n) for n in POWERS])
    slopes: Floats = roots @ rises / (roots @ roots)
    return slopes
