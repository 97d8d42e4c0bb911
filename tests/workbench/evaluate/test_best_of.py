"""The maths of best-of-n: examples by hand, and the mean over all draws."""

import itertools
import math

import numpy as np
import pytest

from workbench.evaluate.best_of import best_of_kl, best_of_values, best_of_weights


def test_weights_by_hand():
    # The 2nd worst of 4 is the best of 2 in one of 6 draws, the 3rd in two, the best in three.
    np.testing.assert_allclose(best_of_weights(4, 2), [0, 1 / 6, 2 / 6, 3 / 6])
    np.testing.assert_allclose(best_of_weights(3, 1), [1 / 3] * 3)
    np.testing.assert_allclose(best_of_weights(3, 3), [0, 0, 1], atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
def test_weights_are_the_mean_over_all_subsets(n):
    scores = np.random.default_rng(0).normal(size=8)
    expected = np.mean([max(drawn) for drawn in itertools.combinations(scores, n)])
    assert np.sort(scores) @ best_of_weights(8, n) == pytest.approx(expected)


def test_kl():
    assert best_of_kl(1) == 0
    assert best_of_kl(4) == pytest.approx(math.log(4) - 0.75)


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_values_are_the_mean_over_all_draws_and_their_ties(n):
    rng = np.random.default_rng(1)
    scores, values = rng.integers(0, 4, size=(3, 8)).astype(float), rng.normal(size=(3, 8))
    for row in range(3):
        means = []
        for drawn in itertools.combinations(range(8), n):
            best = max(scores[row, list(drawn)])
            # An answer of a draw is as likely to be picked as any other of the same score, in the draw or not.
            means.append(np.mean(values[row, scores[row] == best]))
        assert best_of_values(scores, values, n)[row] == pytest.approx(np.mean(means))


def test_constant_scores_pick_an_average_answer():
    values = np.arange(8.0)[None]
    assert best_of_values(np.ones((1, 8)), values, 8) == pytest.approx([3.5])
    assert best_of_values(values, values, 8) == pytest.approx([7.0])
