"""Do the intervals of a campaign's win rate hold at every look, and how much does a reward model narrow them?

Simulated campaigns: a quality gap g ~ N(0.5, 4²) decides a judgement with probability σ(g); one judgement in ten is a
tie. The reward models see g with noise, reversed, shifted, or not at all. Each campaign is looked at after every
judgement from the 30th on, until all pairs are judged. Run it with `python -m benchmarks.ppi`.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from annotate.statistics.powered import FIRST_LOOK, Looks, Sums, estimate, without_predictions
from annotate.statistics.quality import Floats
from benchmarks.record import RESULTS, write_result
from workbench.run.progress import progress

PAIRS = 1000
SPREAD = 4.0
TIES = 0.1
AT = (100, 200, 500)
"""Judged pairs at which half-widths are compared; the first is the headline."""
CHUNK = 200
"""Campaigns simulated together."""
SINGLE = 1.959964
HELD = ("coverage_every_look", "naive_coverage", "coverage_single_look", "human_only_coverage_every_look")
Model = Callable[[Floats, np.random.Generator], Floats]
MODELS: dict[str, tuple[float, Model]] = {
    "sound": (0.5, lambda gap, rng: expit(gap + rng.normal(0, 1, gap.shape))),
    "sound, win rate near 0.8": (4.5, lambda gap, rng: expit(gap + rng.normal(0, 1, gap.shape))),
    "modest": (0.5, lambda gap, rng: expit(gap + rng.normal(0, 5, gap.shape))),
    "biased": (0.5, lambda gap, rng: expit(gap + 3 + rng.normal(0, 1, gap.shape))),
    "anti-correlated": (0.5, lambda gap, rng: expit(-gap)),
    "constant": (0.5, lambda gap, rng: np.full_like(gap, 0.7)),
    "noise": (0.5, lambda gap, rng: rng.random(gap.shape)),
}
"""By name, the mean quality gap and the reward model's prediction."""


def main(argv: list[str] | None = None) -> None:
    """Simulate and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--campaigns", type=int, default=5000, metavar="N", help="per reward model")
    parser.add_argument("--out", type=Path, default=RESULTS / "ppi.json")
    arguments = parser.parse_args(argv)
    with progress(total=len(MODELS) * arguments.campaigns, description="campaigns", unit="campaign") as bar:
        models = {
            name: simulate(seed, *model, arguments.campaigns, bar) for seed, (name, model) in enumerate(MODELS.items())
        }
    sound = models["sound"]
    content = {
        "coverage_every_look": sound["coverage_every_look"],
        "naive_coverage": sound["naive_coverage"],
        "half_width_ratio": sound["half_width_ratio"],
        "campaigns": arguments.campaigns,
        "pairs": PAIRS,
        "first_look": FIRST_LOOK,
        "half_width_at": AT[0],
        "reward_models": models,
    }
    write_result(arguments.out, content)


def simulate(seed: int, centre: float, model: Model, campaigns: int, bar: Any) -> dict[str, Any]:
    """Coverage and half-widths for one reward model."""
    rng = np.random.default_rng(seed)
    truth = win_rate(centre)
    rows = []
    while sum(len(row[0]) for row in rows) < campaigns:
        count = min(CHUNK, campaigns - sum(len(row[0]) for row in rows))
        gap = rng.normal(centre, SPREAD, (count, PAIRS))
        outcomes = (rng.random(gap.shape) < expit(gap)).astype(float)
        outcomes[rng.random(gap.shape) < TIES] = 0.5
        rows.append(one_chunk(outcomes, model(gap, rng), truth))
        bar.update(count)
    columns = [np.concatenate(column) for column in zip(*rows, strict=True)]
    found = {name: float(column.mean()) for name, column in zip(HELD, columns, strict=False)}
    ratios = np.median(columns[-3], axis=0)
    return {
        "win_rate": round(truth, 4),
        "accuracy": float(columns[-1].mean()),
        **found,
        "half_width_ratio": float(ratios[0]),
        "half_width_ratios": {str(at): float(ratio) for at, ratio in zip(AT, ratios, strict=True)},
        "weight": float(np.median(columns[-2])),
    }


def win_rate(centre: float) -> float:
    """The true win rate, by quadrature."""
    gap = np.linspace(centre - 10 * SPREAD, centre + 10 * SPREAD, 200_001)
    density = np.exp(-0.5 * ((gap - centre) / SPREAD) ** 2)
    return float(TIES / 2 + (1 - TIES) * (expit(gap) * density).sum() / density.sum())


def one_chunk(outcomes: Floats, predictions: Floats, truth: float) -> tuple[Floats, ...]:
    """Per campaign: whether each interval of `HELD` holds the truth; then half-width ratios, weight, accuracy."""
    sums = running_sums(outcomes, predictions)
    pool = predictions.mean(1, keepdims=True), predictions.var(1, ddof=1, keepdims=True)
    looks, alone = estimate(sums, PAIRS, *pool), estimate(without_predictions(sums), PAIRS, 0.0, 0.0)
    at = np.array(AT) - FIRST_LOOK
    ratios = (looks.critical * looks.error)[:, at] / (alone.critical * alone.error)[:, at]
    decided = outcomes != 0.5
    right = ((predictions > 0.5) == (outcomes > 0.5)) & decided
    return (
        held(looks, truth, looks.critical).all(1),
        held(looks, truth, SINGLE).all(1),
        held(looks, truth, SINGLE)[:, at[0]],
        held(alone, truth, alone.critical).all(1),
        ratios,
        looks.weight[:, at[0]],
        right.sum(1) / decided.sum(1),
    )


def held(looks: Looks, truth: float, bound: float | Floats) -> Any:
    """(campaigns, looks) whether the interval holds the truth."""
    return np.abs(looks.mean - truth) <= bound * looks.error


def running_sums(outcomes: Floats, predictions: Floats) -> Sums:
    """The sums of each half at every look: arrays (2, campaigns, looks)."""
    halves = [np.arange(PAIRS) % 2 == half for half in (0, 1)]
    columns = (
        np.ones_like(outcomes),
        outcomes,
        predictions,
        outcomes**2,
        outcomes * predictions,
        predictions**2,
    )
    return Sums(
        *(
            np.stack([np.cumsum(np.where(half, column, 0), axis=1)[:, FIRST_LOOK - 1 :] for half in halves])
            for column in columns
        )
    )


if __name__ == "__main__":
    main()
