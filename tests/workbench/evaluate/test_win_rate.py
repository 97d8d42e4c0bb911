"""Numerical tests for workbench.evaluate.win_rate."""

import numpy as np
import pytest
from scipy import optimize

from workbench.evaluate.win_rate import RIDGE, compare, length_controlled_win_rate, outcomes, win_rate


def answers(scores, lengths=None, each=1):
    lengths = np.zeros(len(scores)) if lengths is None else lengths
    return [(f"p{i // each}", float(s), float(n)) for i, (s, n) in enumerate(zip(scores, lengths, strict=True))]


def test_outcomes_by_hand():
    assert outcomes([1.0, 0.0, 0.3], [0.0, 1.0, 0.3]).tolist() == [1.0, 0.0, 0.5]
    assert outcomes([0.30], [0.32], tie=0.05).tolist() == [0.5]


def test_win_rate_by_hand():
    # p0: own {1, 0} against {0}: a win and a tie → ¾.  p1: own {0} against {1}: a loss → 0.  Mean ⅜, not ½.
    own = [("p0", 1.0, 5.0), ("p0", 0.0, 5.0), ("p1", 0.0, 5.0)]
    other = [("p0", 0.0, 4.0), ("p1", 1.0, 4.0), ("only theirs", 9.0, 1.0)]
    comparisons = compare(own, other)
    assert comparisons.outcomes.tolist() == [1.0, 0.5, 0.0]
    assert comparisons.length_differences.tolist() == [1.0, 1.0, 1.0]
    result = win_rate(comparisons, seed=0)
    assert (result.mean, result.count, result.prompts) == (pytest.approx(3 / 8), 3, 2)
    assert result.ties == pytest.approx(1 / 4)


def test_win_rate_matches_loops():
    rng = np.random.default_rng(0)
    own, other = answers(rng.integers(4, size=60), each=3), answers(rng.integers(4, size=40), each=2)
    shares = []
    for prompt in {p for p, _, _ in own}:
        mine, theirs = ([s for p, s, _ in side if p == prompt] for side in (own, other))
        points = [1.0 if a > b else 0.5 if a == b else 0.0 for a in mine for b in theirs]
        shares.append(sum(points) / len(points))
    assert win_rate(compare(own, other), seed=0).mean == pytest.approx(np.mean(shares))


def test_win_rates_of_both_sides_add_to_one():
    rng = np.random.default_rng(1)
    lengths = rng.integers(5, 40, size=(2, 200))
    own, other = answers(rng.normal(size=200), lengths[0]), answers(rng.normal(size=200) + 0.3, lengths[1])
    ours, theirs = win_rate(compare(own, other), seed=0), win_rate(compare(other, own), seed=0)
    assert ours.mean + theirs.mean == pytest.approx(1)
    assert ours.length_controlled + theirs.length_controlled == pytest.approx(1, abs=1e-6)
    assert ours.wilson_low == pytest.approx(1 - theirs.wilson_high)
    assert 0 <= ours.low < ours.mean < ours.high <= 1


def test_more_answers_per_prompt_are_not_more_prompts():
    rng = np.random.default_rng(3)
    own, other = rng.normal(size=50) + 0.5, rng.normal(size=50)
    once = win_rate(compare(answers(own), answers(other)), seed=0)
    copied = win_rate(compare(answers(np.repeat(own, 4), each=4), answers(np.repeat(other, 4), each=4)), seed=0)
    assert (copied.mean, copied.low, copied.high) == pytest.approx((once.mean, once.low, once.high))
    assert copied.count == 16 * once.count


def test_no_common_prompt():
    with pytest.raises(AssertionError, match="share no prompt"):
        compare([("a", 1.0, 1.0)], [("b", 1.0, 1.0)])


def length_controlled_by_minimising(won, difference):
    """Slow: minimise the penalised cross-entropy with fractional labels directly."""
    feature = np.tanh(difference / np.sqrt((difference**2).mean()))

    def loss(parameters):
        logits = parameters[0] + parameters[1] * feature
        return np.sum(np.logaddexp(0, logits) - won * logits) + 0.5 * RIDGE * parameters[1] ** 2

    best = optimize.minimize(loss, np.zeros(2), method="BFGS", options={"gtol": 1e-9})
    return 1 / (1 + np.exp(-best.x[0]))


def test_length_controlled_matches_minimisation():
    rng = np.random.default_rng(4)
    difference = rng.normal(3, 10, size=300)
    won = rng.choice([0, 0.5, 1], size=300, p=[0.3, 0.1, 0.6])
    expected = length_controlled_by_minimising(won, difference)
    assert length_controlled_win_rate(won, difference) == pytest.approx(expected, abs=1e-6)


def test_length_controlled_removes_the_effect_of_length():
    # The judge prefers the longer answer, and one side is nearly always longer: its raw win rate is too high.
    rng = np.random.default_rng(5)
    difference = rng.normal(8, 8, size=4000)
    won = (rng.random(4000) < 1 / (1 + np.exp(-0.25 * difference))).astype(float)
    assert won.mean() > 0.75
    assert length_controlled_win_rate(won, difference) == pytest.approx(0.5, abs=0.06)


def test_length_controlled_equals_raw_without_length():
    won = np.array([1.0, 1.0, 0.5, 0.0])
    assert length_controlled_win_rate(won, np.zeros(4)) == pytest.approx(won.mean())
    assert length_controlled_win_rate(np.ones(4), np.arange(4)) == 1.0
    assert 0 < length_controlled_win_rate([1.0, 1.0, 0.0, 0.0], [5.0, 4.0, -5.0, -4.0]) < 1


def test_length_controlled_ignores_the_unit_of_length():
    rng = np.random.default_rng(6)
    difference, won = rng.normal(size=100), rng.integers(2, size=100)
    same = length_controlled_win_rate(won, difference), length_controlled_win_rate(won, 1000 * difference)
    assert same[0] == pytest.approx(same[1], abs=1e-8)


def test_length_controlled_weighs_like_copies():
    # A comparison of weight 3 counts as three comparisons of weight 1.
    rng = np.random.default_rng(7)
    difference, won = rng.normal(size=60), rng.choice([0, 0.5, 1], size=60)
    weights = rng.choice([1, 3], size=60)
    copied = length_controlled_win_rate(np.repeat(won, weights), np.repeat(difference, weights))
    assert length_controlled_win_rate(won, difference, weights=weights) == pytest.approx(copied, abs=1e-6)
    assert length_controlled_win_rate(won, difference) != pytest.approx(copied, abs=1e-3)
