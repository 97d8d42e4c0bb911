"""Evidence by hand, against a second way to compute it, and its error rates by simulation."""

import math

import numpy as np
import pytest

from ppo.people.evidence import AT_RANDOM, FRACTIONS, SUREST, interval
from ppo.people.evidence import evidence as evidence_of

ALPHA = 0.05


def evidence(checks, outcomes, planned, expected=AT_RANDOM):
    """Of pairs that are all of one kind."""
    return evidence_of(checks, outcomes, [expected] * len(outcomes), planned)


def test_no_judgement_proves_nothing():
    assert evidence([], [], 5).value == 1.0
    assert interval([], ALPHA) == (0.0, 1.0)


def test_one_judgement_by_hand():
    # Lost: mean over f of 1 + f. Won: the mean of 1 - f is below 1, so the value before it is the largest.
    assert evidence([1], [0.0], 1).value == pytest.approx(1 + np.mean(FRACTIONS))
    assert evidence([1], [1.0], 1).value == 1.0
    assert evidence([1], [0.5], 1).value == 1.0


def test_a_pair_of_which_the_reward_model_is_surest_by_hand():
    # Lost: a fair bet at 2 : 1 wins twice the share. Won: the share is lost. Both kinds are one capital.
    twice = np.mean([1 + 2 * f for f in FRACTIONS])
    assert evidence([1], [0.0], 1, SUREST).value == pytest.approx(twice)
    both = np.mean([(1 + 2 * f) * (1 - f) * (1 + f) for f in FRACTIONS])
    found = evidence_of([1, 1, 1], [1.0, 0.0, 0.0], [AT_RANDOM, AT_RANDOM, SUREST], 1)
    assert found.value == pytest.approx(max(both, 1.0))


def test_two_checks_by_hand():
    # Weights 2/3 and 1/3. Won at check 1, which the second start leaves out, then lost twice at check 2.
    first = np.mean([(1 - f) * (1 + f) ** 2 for f in FRACTIONS])
    second = np.mean([(1 + f) ** 2 for f in FRACTIONS])
    found = evidence([1, 2, 2], [1.0, 0.0, 0.0], 2)
    assert found.value == pytest.approx(2 / 3 * first + 1 / 3 * second)
    assert evidence([1, *[2] * 9], [0.0] * 10, 2).since == 1
    assert evidence([*[1] * 8, *[2] * 9], [1.0] * 8 + [0.0] * 9, 2).since == 2


def test_a_start_counts_no_earlier_check_whatever_the_order_of_arrival():
    # A judgement of check 1 that comes late changes the first start alone.
    found = evidence([2, 2, 1], [0.0, 0.0, 0.0], 2)
    first = np.mean([(1 + f) ** 3 for f in FRACTIONS])
    second = np.mean([(1 + f) ** 2 for f in FRACTIONS])
    assert found.value == pytest.approx(2 / 3 * first + 1 / 3 * second)


def test_it_never_falls_and_stays_finite():
    values = [evidence([1] * n, ([0.0] * 20 + [1.0] * 20)[:n], 3).value for n in range(1, 41)]
    assert values == sorted(values)
    assert math.isfinite(evidence([1] * 5000, [0.0] * 5000, 1).value)


def alarms(win_rates, *, per_check, runs, seed, ties=0.1, expected=AT_RANDOM):
    """Share of simulated runs that are paused, with one win rate for each check."""
    generator = np.random.default_rng(seed)
    checks = np.repeat(np.arange(1, len(win_rates) + 1), per_check)
    rates = np.repeat(win_rates, per_check) - ties / 2
    found = 0
    for _ in range(runs):
        u = generator.random(len(checks))
        outcomes = np.where(u < rates, 1.0, np.where(u < rates + ties, 0.5, 0.0))
        found += evidence(checks.tolist(), outcomes.tolist(), len(win_rates), expected).value >= 1 / ALPHA
    return found / runs


def test_false_alarms_of_a_whole_run_stay_below_alpha():
    # The worst case of the null: no better and no worse than the start, at all of 12 checks.
    assert alarms([0.5] * 12, per_check=8, runs=400, seed=0) <= ALPHA
    assert alarms([0.6] * 12, per_check=8, runs=100, seed=1) == 0.0
    assert alarms([SUREST] * 12, per_check=8, runs=400, seed=4, expected=SUREST) <= ALPHA
    assert alarms([0.5] * 12, per_check=8, runs=100, seed=5, expected=SUREST) > 0.5


def test_a_policy_that_was_better_first_is_found():
    better_then_worse = [0.7] * 6 + [0.15] * 6
    assert alarms(better_then_worse, per_check=10, runs=100, seed=2) >= 0.9


def test_an_interval_by_hand():
    # One outcome, 1: only the capital on a larger mean grows, ½ mean_f(1 + f (1 − m)/m) + ½ mean_f(1 − f), so the
    # smallest win rate that is kept solves it for 1/α.
    low, high = interval([1.0], ALPHA)
    mean = np.mean(FRACTIONS)
    assert low == pytest.approx(1 / (1 + (2 / ALPHA - (1 - mean) - 1) / mean), abs=1 / 400)
    assert high == 1.0


def test_an_interval_is_symmetric_and_narrows():
    outcomes = [1.0, 0.0, 1.0, 1.0, 0.5, 1.0, 0.0, 1.0] * 3
    low, high = interval(outcomes, ALPHA)
    mirrored = interval([1 - x for x in outcomes], ALPHA)
    assert mirrored == pytest.approx((1 - high, 1 - low))
    more = interval(outcomes * 4, ALPHA)
    assert low < more[0] < np.mean(outcomes) < more[1] < high


def test_the_interval_holds_the_win_rate_at_every_look():
    generator, missed, runs = np.random.default_rng(3), 0, 40
    for _ in range(runs):
        outcomes = (generator.random(40) < 0.3).astype(float).tolist()
        looks = [interval(outcomes[:n], ALPHA) for n in range(1, 41, 3)]
        missed += any(not low <= 0.3 <= high for low, high in looks)
    assert missed / runs <= ALPHA + 0.03
