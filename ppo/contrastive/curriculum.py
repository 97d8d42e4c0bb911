"""The order in which pairs are drawn: easy before hard, or the controls of that idea. Pure.

Source: Xu et al. 2023, arXiv:2310.02263 (contrastive post-training from easier to harder pairs).
"""

from collections.abc import Iterator, Sequence

import numpy as np

SCHEDULES = ("mixed", "linear", "step", "reversed", "hard")
"""The probability of a hard pair at progress p ∈ [0, 1): its share of the data, p^k, 1[p ≥ ½], 1 − p^k, 1."""


def hard_probability(schedule: str, progress: float, *, power: float, share: float) -> float:
    """Probability that the next pair is a hard one.

    Args:
        schedule: one of `SCHEDULES`.
        progress: share of the draws already made, in [0, 1).
        power: k > 0; 1 is linear.
        share: of hard pairs in the data.
    """
    risen = progress**power
    return {"mixed": share, "linear": risen, "step": float(progress >= 0.5), "reversed": 1 - risen, "hard": 1.0}[
        schedule
    ]


def draw_order(
    difficulties: Sequence[float], draws: int, *, schedule: str, power: float = 1.0, seed: int = 0
) -> list[int]:
    """The pairs in the order of training, (draws,) indices.

    A pair is hard if its difficulty is above the median. Within the hard and within the easy pairs each is drawn once
    before any is drawn again, in an order of its own for each pass.

    Args:
        difficulties: (N,) of each pair, larger is harder.
        draws: how many pairs training reads.
        schedule, power: see `hard_probability`.
        seed: of the draws.
    """
    values = np.asarray(difficulties, dtype=float)
    hard = values > np.median(values)
    pools = {kind: np.flatnonzero(hard == kind) for kind in (False, True)}
    if not len(pools[True]):  # all pairs are equally hard
        pools[True] = pools[False]
    rng = np.random.default_rng(seed)
    share = float(hard.mean())
    endless = {kind: _passes(pool, np.random.default_rng((seed, int(kind)))) for kind, pool in pools.items()}
    return [
        next(endless[bool(rng.random() < hard_probability(schedule, draw / draws, power=power, share=share))])
        for draw in range(draws)
    ]


def _passes(pool: np.ndarray, rng: np.random.Generator) -> Iterator[int]:
    while True:
        yield from rng.permutation(pool).tolist()
