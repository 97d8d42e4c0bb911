"""Numerical tests for workbench.evaluate.statistics."""

import math

import numpy as np
import pytest
from scipy import stats

from workbench.evaluate.statistics import (
    Estimate,
    bootstrap_interval,
    share_interval,
    wilson_interval,
)

EXACT = {"rel": 1e-10, "abs": 1e-12}


def test_wilson_by_hand():
    # 8 of 10: z² = 3.841459; p + z²/20 = .992073; z·√(.016 + z²/400) = 1.959964·√.025604 = .313615
    # divided by 1.384146: centre .716740, spread .226577 → [.490163, .943318]
    assert wilson_interval(8, 10) == pytest.approx((0.490162, 0.943318), abs=2e-6)


@pytest.mark.parametrize(("successes", "count"), [(0, 5), (5, 5), (7, 30), (250, 400)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_wilson_matches_scipy(successes, count, confidence):
    theirs = stats.binomtest(successes, count).proportion_ci(confidence, method="wilson")
    ours = wilson_interval(successes, count, confidence=confidence)
    assert ours == pytest.approx((theirs.low, theirs.high), **EXACT)


@pytest.mark.parametrize(("successes", "count"), [(3, 11), (7.5, 30), (199, 400)])
def test_wilson_ends_solve_the_score_equation(successes, count):
    # By another route: the ends are where |p̂ − p| equals z standard errors computed at p itself.
    z = stats.norm.ppf(0.975)
    for end in wilson_interval(successes, count):
        assert abs(successes / count - end) == pytest.approx(z * math.sqrt(end * (1 - end) / count), **EXACT)


def test_wilson_mirrors():
    low, high = wilson_interval(3.5, 20)
    assert wilson_interval(16.5, 20) == pytest.approx((1 - high, 1 - low), **EXACT)


def test_bootstrap_matches_scipy():
    values = np.random.default_rng(2).exponential(size=60)
    ours = bootstrap_interval(values, seed=0, resamples=20_000)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_bootstrap_of_three_prompts_by_enumeration():
    # All 27 equally likely draws of three prompts give the exact quantiles of the resampled mean.
    sums, counts = np.array([1.0, 6.0, 4.0]), np.array([1.0, 3.0, 1.0])
    draws = np.array(np.meshgrid(*[range(3)] * 3)).reshape(3, -1).T
    exact = np.sort(sums[draws].sum(1) / counts[draws].sum(1))
    ours = bootstrap_interval([1, 1, 2, 3, 4], list("abbbc"), seed=3, resamples=50_000, confidence=0.8)
    # The exact distribution is discrete: the 10 % and 90 % quantiles fall inside steps of it.
    assert ours.low == pytest.approx(np.quantile(exact, 0.1, method="inverted_cdf"))
    assert ours.high == pytest.approx(np.quantile(exact, 0.9, method="inverted_cdf"))
    assert ours.mean == pytest.approx(11 / 5)


def test_bootstrap_repeats_with_its_seed_and_leaves_the_global_generator():
    np.random.seed(0)
    before = np.random.get_state()[1].tolist()
    first, again, other = (bootstrap_interval(range(50), seed=s, resamples=500) for s in (1, 1, 2))
    assert first == again
    assert first != other
    assert np.random.get_state()[1].tolist() == before


def test_coverage_with_several_answers_per_prompt():
    # Answers of a prompt share an effect of sd 1, the true mean is 0: 95 % intervals cover it 19 in 20 times.
    rng = np.random.default_rng(5)
    prompts = np.repeat(np.arange(40), 4)
    hits = {"clustered": 0, "naive": 0}
    for trial in range(200):
        values = rng.normal(size=40)[prompts] + 0.3 * rng.normal(size=160)
        clustered = bootstrap_interval(values, prompts.tolist(), seed=trial, resamples=400)
        naive = bootstrap_interval(values, seed=trial, resamples=400)
        hits["clustered"] += clustered.low <= 0 <= clustered.high
        hits["naive"] += naive.low <= 0 <= naive.high
    assert hits["clustered"] >= 180
    assert hits["naive"] <= 160  # the negative control: treating answers as independent is over-confident


def test_a_share_of_all_is_wilsons_and_open_below():
    # 18 of 18, each its own prompt: (1 + z²/36 − z √(z²/1296)) / (1 + z²/18) = 1 / (1 + z²/18) = 0.824.
    found = share_interval(np.ones(18))
    assert (found.mean, found.high, found.count, found.prompts) == (1.0, 1.0, 18, 18)
    assert found.low == pytest.approx(1 / (1 + 1.959964**2 / 18), abs=1e-6)


def test_copies_of_one_outcome_add_no_certainty_to_a_share():
    once = share_interval([1, 0, 1, 1], ["a", "b", "c", "d"])
    thrice = share_interval([1, 0, 1, 1] * 3, ["a", "b", "c", "d"] * 3)
    assert (thrice.low, thrice.high) == (pytest.approx(once.low), pytest.approx(once.high))
    assert share_interval(np.ones(12), ["a", "b"] * 6) == Estimate(1.0, *wilson_interval(2, 2), 12, 2)


def test_a_share_of_independent_pairs_is_close_to_wilson_and_never_narrower_than_all_of_them_allow():
    values = np.repeat([1.0, 0.0], [30, 10])
    low, high = wilson_interval(30, 40)
    found = share_interval(values)
    assert (found.low, found.high) == (pytest.approx(low, abs=0.005), pytest.approx(high, abs=0.005))
    ties = share_interval([0.5] * 20 + [1.0] * 20)  # ties vary less than coin flips but do not count as more trials
    assert (ties.low, ties.high) == wilson_interval(30, 40)
