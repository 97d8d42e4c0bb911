"""Signals of over-optimisation: by hand, against oracles, and their limits."""

import math

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from ppo.guard.signals import FEWEST, Cloud, fit_law, shrunk_covariance, spread


def law(distances, alpha, beta):
    return distances * (alpha - beta * np.log(distances))


def test_the_law_is_recovered_with_its_peak():
    d = np.linspace(0.3, 4, 12)
    found = fit_law(np.array([0.0, *d]), np.array([9.0, *law(d, 1.2, 0.8)]))  # the observation at 0 is left out
    assert (found.alpha, found.beta) == pytest.approx((1.2, 0.8))
    assert found.peak == pytest.approx(math.exp(1.2 / 0.8 - 1))  # where the derivative α − β(1 + ln d) is 0
    assert found.low == pytest.approx(found.peak, rel=1e-3)
    assert found.high == pytest.approx(found.peak, rel=1e-3)
    assert found.falling > 100, "beyond the peak, and without noise"


def test_the_interval_of_the_peak_covers_it():
    rng, d, true = np.random.default_rng(0), np.linspace(0.3, 4, 20), math.exp(0.5)
    fits = [fit_law(d, law(d, 1.2, 0.8) + rng.normal(0, 0.2, 20)) for _ in range(400)]
    covered = np.mean([fit.low <= true <= fit.high for fit in fits])
    assert 0.9 < covered < 0.97, "about 95 %: the residual variance is estimated"


def test_falling_is_the_slope_in_standard_errors():
    # Ordinary least squares by another route: residuals and slope from numpy's lstsq, the error from a bootstrap.
    rng, d = np.random.default_rng(1), np.linspace(0.3, 4, 40)
    gain = law(d, 1.2, 0.8) + rng.normal(0, 0.2, 40)
    design = np.stack([d, -d * np.log(d)], axis=1)
    fitted = design @ np.linalg.lstsq(design, gain, rcond=None)[0]
    slopes = []
    for _ in range(2000):
        a, b = np.linalg.lstsq(design, fitted + rng.normal(0, 0.2, 40), rcond=None)[0]
        slopes.append(a - b * (1 + math.log(4)))
    assert fit_law(d, gain).falling == pytest.approx(-np.mean(slopes) / np.std(slopes), rel=0.25)


def test_a_gain_that_only_rises_has_no_peak():
    d = np.linspace(0.3, 4, 12)
    found = fit_law(d, d + np.random.default_rng(0).normal(0, 0.1, 12))
    assert (found.low, found.high) == (0.0, math.inf), "the bend may be 0"
    assert found.falling < -10
    rises = fit_law(d, law(d, 1.0, -0.5))
    assert (rises.peak, rises.low, rises.high) == (math.inf, 0.0, math.inf)


def test_too_few_observations_have_no_law():
    d = np.linspace(0.3, 1, FEWEST)
    assert fit_law(d, d) is not None
    assert fit_law(d[1:], d[1:]) is None
    assert fit_law(np.zeros(20), np.zeros(20)) is None
    assert fit_law(np.ones(20), np.ones(20)) is None


def test_the_covariance_is_ledoit_and_wolf_s():
    states = np.random.default_rng(0).normal(size=(30, 8)) * np.arange(1, 9)
    assert np.allclose(shrunk_covariance(states), LedoitWolf().fit(states).covariance_, rtol=1e-4)
    wide = np.random.default_rng(0).normal(size=(10, 40))
    assert np.linalg.eigvalsh(shrunk_covariance(wide)).min() > 0, "invertible with fewer answers than dimensions"
    assert np.linalg.eigvalsh(shrunk_covariance(np.ones((10, 3)))).min() > 0


def test_distances_by_hand():
    # Variances 4 and 1: (2, 0) lies one deviation from the mean, (0, 3) three.
    cloud = Cloud(np.zeros(2), np.diag([1 / 4, 1.0]), radius=2.0)
    states = np.array([[2.0, 0.0], [0.0, 3.0]])
    assert cloud.distances(states) == pytest.approx([1.0, 3.0])
    assert cloud.outlier_share(states) == 0.5


@pytest.mark.parametrize("size", [4, 96])
def test_about_one_answer_in_a_hundred_is_an_outlier_by_chance(size):
    rng = np.random.default_rng(0)
    cloud = Cloud.of(rng.normal(size=(600, size)))
    assert cloud.outlier_share(rng.normal(size=(4000, size))) < 0.03
    assert cloud.outlier_share(rng.normal(size=(100, size)) + 5.0) == 1.0


def test_spread_by_hand():
    # Answer 1: 1 and 3, deviation √2; answer 2: no disagreement.
    assert spread(np.array([[1.0, 2.0], [3.0, 2.0]])) == pytest.approx(math.sqrt(2) / 2)
    assert spread(np.array([[1.0, 5.0]])) == 0.0
