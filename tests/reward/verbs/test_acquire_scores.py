"""How informative a label is: by hand, against other formulas of the same quantity, and in the limits."""

import math

import numpy as np
import pytest
from scipy import stats

from reward.verbs.acquire_scores import (
    bald,
    best_first,
    binary_entropy,
    d_optimal,
    disagreement,
    length_balanced,
    uncertainty,
    wide_gaps,
)

LOGIT_3 = math.log(3)  # σ = ¾


def test_entropy_by_hand():
    # H(½) = log 2; H(¼) = ¼ log 4 + ¾ log(4/3) = .5623; certain: 0.
    assert binary_entropy([0.5, 0.25, 0.75, 0, 1]) == pytest.approx([math.log(2), 0.56233514, 0.56233514, 0, 0])


def test_two_models_by_hand():
    # Pair 0: ¾ and ¼ → mean ½: uncertainty log 2, spread ¼, bald log 2 − .5623. Pair 1: both ¾ → .5623, 0, 0.
    # Pair 2: both ½ → log 2, 0, 0: uncertain, but all models agree.
    gaps = [[LOGIT_3, LOGIT_3, 0], [-LOGIT_3, LOGIT_3, 0]]
    assert uncertainty(gaps) == pytest.approx([math.log(2), 0.56233514, math.log(2)])
    assert disagreement(gaps) == pytest.approx([0.25, 0, 0], abs=1e-12)
    assert bald(gaps) == pytest.approx([math.log(2) - 0.56233514, 0, 0], abs=1e-8)


def test_three_models_spread_by_hand():
    # ½, ¾, ¼: mean ½, squares 0, 1/16, 1/16 over 3 models: sd = √(1/24).
    assert disagreement([[0], [LOGIT_3], [-LOGIT_3]]) == pytest.approx([math.sqrt(1 / 24)])


def test_bald_is_the_mutual_information_of_model_and_label():
    """Oracle: mean over models of KL(model's label distribution ‖ mixture)."""
    gaps = np.random.default_rng(0).normal(0, 2, (4, 50))
    p = 1 / (1 + np.exp(-gaps))
    mixture = p.mean(axis=0)
    expected = [
        np.mean([stats.entropy([p[m, n], 1 - p[m, n]], [mixture[n], 1 - mixture[n]]) for m in range(4)])
        for n in range(50)
    ]
    np.testing.assert_allclose(bald(gaps), expected, rtol=1e-9)


def test_sure_models_that_contradict_are_worth_most_and_sides_do_not_matter():
    gaps = np.array([[900.0, 900.0, 0.3], [-900.0, 900.0, 0.2]])
    assert bald(gaps) == pytest.approx([math.log(2), 0, 0], abs=1e-3)
    for measure in (uncertainty, disagreement, bald):
        np.testing.assert_allclose(measure(gaps), measure(-gaps))
        np.testing.assert_allclose(measure(gaps), measure(gaps[::-1]))


def test_one_model_cannot_disagree():
    for measure in (disagreement, bald):
        with pytest.raises(AssertionError):
            measure([[0.5, 1.0]])


def test_order_by_hand():
    assert best_first([0.1, 0.7, 0.7, 0.3], [0.0, 0.9, 0.2, 0.5]).tolist() == [2, 1, 3, 0]


def test_length_balanced_by_hand():
    # log ratios of (a + 1)/(b + 1): rows 0-3: 0; row 4: log 8 (widest, bin 2); row 5: log 2 = ⅓ of it (bin 1).
    # Three bins of width log 2, one pair of each in turn, ordered by tie break: 3, 5, 4 then 2, 1, 0.
    lengths = [[7, 7], [3, 3], [5, 5], [1, 1], [7, 0], [1, 3]]
    assert length_balanced(lengths, [0.9, 0.8, 0.7, 0.1, 0.5, 0.5], bins=3).tolist() == [3, 5, 4, 2, 1, 0]
    # Which side is longer does not matter; equal lengths everywhere: the tie breaks alone.
    swapped = [[b, a] for a, b in lengths]
    assert length_balanced(swapped, [0.9, 0.8, 0.7, 0.1, 0.5, 0.5], bins=3).tolist() == [3, 5, 4, 2, 1, 0]
    assert length_balanced([[2, 2]] * 3, [0.3, 0.1, 0.2]).tolist() == [1, 2, 0]


def test_every_beginning_is_balanced():
    rng = np.random.default_rng(1)
    lengths = np.stack([np.full(500, 10), 10 + rng.geometric(0.3, 500)], axis=1)  # mostly similar, few very different
    first = length_balanced(lengths, rng.random(500))[:20]
    apart = np.abs(np.log((lengths[:, 0] + 1) / (lengths[:, 1] + 1)))
    assert apart[first].mean() > 1.5 * apart.mean()
    assert sorted(length_balanced(lengths, rng.random(500))) == list(range(500)), "every pair once"


def test_wide_gaps_by_hand():
    # Pair 0: gaps 3 and 1 → 2 + 1. Pair 1: −3 and −1 → the same. Pair 2: 2 and −2 → 0 + 2. One model: |gap|.
    assert wide_gaps([[3, -3, 2], [1, -1, -2]]) == pytest.approx([3, 3, 2])
    assert wide_gaps([[0.5, -1.5]]) == pytest.approx([0.5, 1.5])


def test_d_optimal_by_hand():
    # One direction seen twice adds little. Weights ¼, scaled by 1/.822: xᵀx = 1.098, 1.217, .685. After (2, 0), another
    # (1.9, 0) gains 1.098 / (1 + 1.217) = .495, less than (0, 1.5).
    features = [[1.9, 0.0], [2.0, 0.0], [0.0, 1.5]]
    assert d_optimal(features, [0, 0, 0], 2).tolist() == [1, 2]
    # A pair whose label is certain says little: its weight σ(g)(1 − σ(g)) is near 0.
    assert d_optimal([[2.0, 0.0], [1.0, 0.0]], [20.0, 0.0], 1).tolist() == [1]
    assert sorted(d_optimal(np.zeros((3, 2)), np.zeros(3), 5).tolist()) == [0, 1, 2], "every pair once"


def test_d_optimal_takes_the_largest_determinant_at_each_step():
    """Oracle: log-determinants of the whole information matrix, computed anew at each step."""
    rng = np.random.default_rng(3)
    features, gaps = rng.normal(size=(30, 4)) * [3, 1, 1, 0.3], rng.normal(size=30)
    p = 1 / (1 + np.exp(-gaps))
    x = features * np.sqrt(p * (1 - p))[:, None]
    x /= np.sqrt((x**2).sum(axis=1).mean())
    information, expected = np.eye(4), []
    for _ in range(8):
        volumes = [
            -np.inf if i in expected else np.linalg.slogdet(information + np.outer(x[i], x[i]))[1] for i in range(30)
        ]
        expected.append(int(np.argmax(volumes)))
        information += np.outer(x[expected[-1]], x[expected[-1]])
    assert d_optimal(features, gaps, 8).tolist() == expected
