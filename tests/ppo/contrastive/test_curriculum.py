"""Curricula: which pairs come when."""

from collections import Counter

import numpy as np
import pytest

from ppo.contrastive.curriculum import SCHEDULES, draw_order, hard_probability

DIFFICULTIES = [n / 40 for n in range(40)]  # 20 to 39 are hard


def hard_shares(schedule: str, **options: float) -> list[float]:
    """Share of hard pairs in each quarter of 4 000 draws."""
    order = np.array(draw_order(DIFFICULTIES, 4000, schedule=schedule, seed=3, **options))
    return [float((quarter >= 20).mean()) for quarter in order.reshape(4, 1000)]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("mixed", [0.5, 0.5, 0.5, 0.5]),
        ("linear", [0.125, 0.375, 0.625, 0.875]),
        ("step", [0.0, 0.0, 1.0, 1.0]),
        ("reversed", [0.875, 0.625, 0.375, 0.125]),
        ("hard", [1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_the_share_of_hard_pairs_follows_the_schedule(schedule, expected):
    assert hard_shares(schedule) == pytest.approx(expected, abs=0.05)


def test_a_power_delays_the_hard_pairs():
    # ∫ p² over a quarter, times 4: (b³ − a³) · 4 / 3
    quarters = [(b**3 - a**3) * 4 / 3 for a, b in ((0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1))]
    assert hard_shares("linear", power=2.0) == pytest.approx(quarters, abs=0.05)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_order_depends_on_the_seed_alone(schedule):
    first, second, other = (draw_order(DIFFICULTIES, 200, schedule=schedule, seed=seed) for seed in (1, 1, 2))
    assert first == second != other


@pytest.mark.parametrize("schedule", ["mixed", "linear", "reversed"])
def test_no_pair_comes_again_before_its_kind_is_through(schedule):
    order = draw_order(DIFFICULTIES, 120, schedule=schedule, seed=0)
    for kind in (range(20), range(20, 40)):
        drawn = [index for index in order if index in kind]
        passes = [drawn[start : start + 20] for start in range(0, len(drawn) - len(drawn) % 20, 20)]
        assert passes
        assert all(sorted(one) == list(kind) for one in passes)


def test_pairs_that_are_equally_hard_are_all_drawn():
    order = draw_order([0.5] * 6, 60, schedule="linear", seed=0)
    assert set(Counter(order)) == set(range(6))


def test_progress_ends_below_one():
    assert hard_probability("linear", 0.0, power=1.0, share=0.3) == 0.0
    assert hard_probability("mixed", 0.7, power=1.0, share=0.3) == 0.3
    assert hard_probability("step", 0.5, power=1.0, share=0.3) == 1.0
    assert hard_probability("reversed", 0.25, power=2.0, share=0.3) == 1 - 0.0625
