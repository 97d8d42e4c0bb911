"""Numerical tests for workbench.evaluate.metrics."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from workbench.evaluate.metrics import (
    accuracy_by_margin,
    brier,
    correctness,
    correlation,
    correlation_within,
    distinct_n,
    ece_by_chance,
    equal_mass_bins,
    expected_calibration_error,
    kl_limit,
    reliability_bins,
    unique_share,
    words,
)

EXACT = {"rel": 1e-10, "abs": 1e-12}


def calibrated_gaps(count, seed=0, scale=1.5):
    """Gaps whose sign is right with probability σ(|gap|)."""
    rng = np.random.default_rng(seed)
    size = np.abs(rng.normal(0, scale, count))
    return np.where(rng.random(count) < 1 / (1 + np.exp(-size)), size, -size)


def test_words_split_punctuation():
    assert words("Don't stop,  NOW!") == ["don", "'", "t", "stop", ",", "now", "!"]


def test_distinct_n_by_hand():
    # unigrams: a b a | a b → {a, b} of 5; bigrams: ab ba | ab → {ab, ba} of 3; trigrams: aba → 1 of 1
    texts = ["a b a", "A b"]
    assert distinct_n(texts, 1) == pytest.approx(2 / 5)
    assert distinct_n(texts, 2) == pytest.approx(2 / 3)
    assert distinct_n(texts, 3) == 1.0
    assert distinct_n(texts, 4) is None
    assert distinct_n([""], 1) is None


def test_distinct_n_falls_when_answers_repeat_and_ignores_order():
    texts = ["one two three", "four five six", "one two four"]
    assert distinct_n(texts * 2, 2) == pytest.approx(distinct_n(texts, 2) / 2)
    assert distinct_n(texts[::-1], 2) == distinct_n(texts, 2)


def test_ngrams_do_not_cross_answers():
    assert distinct_n(["a b", "a b"], 2) == pytest.approx(1 / 2)  # "b a" between the two is not one


def test_unique_share():
    assert unique_share(["a", "b", "a ", "a"]) == 0.5


def test_correctness_counts_ties_half():
    assert correctness([2.0, -1.0, 0.0]).tolist() == [1.0, 0.0, 0.5]
    assert correctness([-2.0, 1.0, 0.0]).tolist() == [0.0, 1.0, 0.5]


def test_reliability_by_hand():
    # |gap| = 0 (tie), ln 3 (right), ln 3 (wrong), ln 9 (right): confidences .5, .75, .75, .9
    # two bins: {.5, .75} → mean .625, accuracy (½ + 1)/2 = .75; {.75, .9} → .825, accuracy ½
    # ECE = ½·|.75 − .625| + ½·|.5 − .825| = .225
    gaps = [0.0, math.log(3), -math.log(3), math.log(9)]
    first, second = reliability_bins(gaps, bins=2)
    assert (first.confidence, first.accuracy, first.count) == pytest.approx((0.625, 0.75, 2))
    assert (second.low, second.high, second.confidence, second.accuracy) == pytest.approx((0.75, 0.9, 0.825, 0.5))
    assert expected_calibration_error(gaps, bins=2) == pytest.approx(0.225)


def ece_by_definition(gaps, bins):
    """Slow: pairs sorted one by one into bins whose sizes differ by at most one."""
    order = sorted(range(len(gaps)), key=lambda i: abs(gaps[i]))
    total, start = 0.0, 0
    for k in range(bins):
        size = len(gaps) // bins + (1 if k < len(gaps) % bins else 0)
        members = order[start : start + size]
        start += size
        claimed = sum(1 / (1 + math.exp(-abs(gaps[i]))) for i in members)
        right = sum(1.0 if gaps[i] > 0 else 0.5 if gaps[i] == 0 else 0.0 for i in members)
        total += abs(claimed - right)
    return total / len(gaps)


@pytest.mark.parametrize(("count", "bins"), [(100, 10), (101, 12), (997, 15), (30, 30)])
def test_ece_matches_definition(count, bins):
    gaps = calibrated_gaps(count, seed=count)
    ours = expected_calibration_error(gaps, bins=bins)
    assert ours == pytest.approx(ece_by_definition(gaps.tolist(), bins), **EXACT)


def test_reliability_matches_sklearn():
    gaps = calibrated_gaps(1200, seed=3)
    share, claimed = calibration_curve(gaps > 0, 1 / (1 + np.exp(-np.abs(gaps))), n_bins=10, strategy="quantile")
    ours = reliability_bins(gaps, bins=10)
    assert [b.confidence for b in ours] == pytest.approx(claimed.tolist(), **EXACT)
    assert [b.accuracy for b in ours] == pytest.approx(share.tolist(), **EXACT)


def test_ece_tells_calibrated_from_overconfident():
    gaps = calibrated_gaps(20_000)
    assert expected_calibration_error(gaps) < 0.012
    assert expected_calibration_error(4 * gaps) > 0.12
    assert expected_calibration_error(gaps / 10) > 0.1  # underconfidence is an error too
    assert expected_calibration_error(gaps) == expected_calibration_error(gaps[::-1])


def test_ece_by_chance_matches_simulation():
    size = np.abs(np.random.default_rng(7).normal(0, 1.5, 600))
    rng, probability = np.random.default_rng(8), 1 / (1 + np.exp(-size))
    simulated = [expected_calibration_error(np.where(rng.random(600) < probability, size, -size)) for _ in range(300)]
    assert ece_by_chance(size) == pytest.approx(np.mean(simulated), rel=0.05)
    assert ece_by_chance(np.repeat(size, 4)) == pytest.approx(ece_by_chance(size) / 2)


def test_bins_never_outnumber_pairs():
    assert [b.count for b in reliability_bins([1.0, -1.0], bins=12)] == [1, 1]


def test_brier_by_hand_and_by_flipping():
    assert brier([0.0, math.log(3)]) == pytest.approx((0.25 + 1 / 16) / 2)
    # With random sides the event is "left wins"; the score must not change.
    gaps, rng = calibrated_gaps(400, seed=4), np.random.default_rng(0)
    left = rng.random(400) < 0.5
    probability = 1 / (1 + np.exp(-np.where(left, gaps, -gaps)))
    assert brier(gaps) == pytest.approx(brier_score_loss(left, probability), **EXACT)


def test_accuracy_by_margin_by_hand():
    easy = accuracy_by_margin([3.0, -0.1, 2.0, 0.2], bins=2)
    assert [(b.accuracy, b.count) for b in easy] == [(0.5, 2), (1.0, 2)]
    by_label = equal_mass_bins([0, 3, 0, 3], correctness([3.0, -0.1, 2.0, 0.2]), bins=2)
    assert [(b.accuracy, b.low, b.high) for b in by_label] == [(1.0, 0, 0), (0.5, 3, 3)]


def test_correlation_matches_scipy_and_is_none_for_constants():
    rng = np.random.default_rng(0)
    x = rng.normal(size=50)
    y = x + rng.normal(size=50)
    assert correlation(x, y) == pytest.approx(stats.pearsonr(x, y).statistic, **EXACT)
    assert correlation(x, -3 * y + 7) == pytest.approx(-correlation(x, y), **EXACT)
    assert correlation(x, np.full(50, 0.1)) is None
    assert correlation([1.0], [2.0]) is None


def test_correlation_within_prompts_can_oppose_the_overall_one():
    # Prompt b has longer and better answers; within each prompt the longer answer scores lower.
    lengths, scores, prompts = [1, 2, 3, 11, 12, 13], [2, 1, 0, 12, 11, 10], list("aaabbb")
    assert correlation(lengths, scores) > 0.9
    assert correlation_within(lengths, scores, prompts) == pytest.approx(-1)
    assert correlation_within(lengths, scores, list(range(6))) is None


def test_correlation_within_matches_regression_on_dummies():
    # By another route: residuals of least squares on one indicator per prompt.
    rng = np.random.default_rng(2)
    prompts = rng.integers(5, size=60)
    x, y = rng.normal(size=60) + prompts, rng.normal(size=60) - prompts
    dummies = np.eye(5)[prompts]
    residuals = [v - dummies @ np.linalg.lstsq(dummies, v, rcond=None)[0] for v in (x, y)]
    expected = stats.pearsonr(*residuals).statistic
    assert correlation_within(x, y, prompts.tolist()) == pytest.approx(expected, **EXACT)


@pytest.mark.parametrize(("length", "nats"), [(8.0, 10.0), (100.0, 10.0), (150.0, 15.0), (300.0, 30.0)])
def test_the_kl_limit_grows_with_the_answers(length, nats):
    # A tenth of a nat per token, at least 10: 300 tokens may move 30 nats.
    assert kl_limit(length) == pytest.approx(nats)
