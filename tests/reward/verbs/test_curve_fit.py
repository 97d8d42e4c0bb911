"""Power laws: exact ones are recovered, noisy ones within their intervals; forecasts by hand."""

import numpy as np
import pytest

from reward.verbs.curve_fit import Forecast, PowerLaw, band, fit_power_law, forecast, resampled_laws

SIZES = np.repeat([125, 250, 500, 1000, 2000], 3)


def test_the_law_by_hand():
    # .9 − 2 · 100^(−½) = .7; .9 − 2 · 400^(−½) = .8
    assert PowerLaw(0.9, 2.0, 0.5)([100, 400]) == pytest.approx([0.7, 0.8])


@pytest.mark.parametrize("law", [PowerLaw(0.85, 1.5, 0.4), PowerLaw(0.7, 2.0, 0.6), PowerLaw(0.95, 0.9, 0.2)])
def test_an_exact_law_comes_back(law):
    found = fit_power_law(SIZES, law(SIZES))
    assert found([150, 4000]) == pytest.approx(law([150, 4000]), abs=2e-4)
    assert (found.ceiling, found.exponent) == (
        pytest.approx(law.ceiling, abs=0.01),
        pytest.approx(law.exponent, abs=0.02),
    )


def test_a_curve_that_does_not_rise_promises_nothing():
    law = fit_power_law(SIZES, np.full(len(SIZES), 0.6))
    assert law([1000, 4000]) == pytest.approx([0.6, 0.6], abs=1e-3)


def test_the_fit_is_the_least_squares_one():
    rng = np.random.default_rng(0)
    y = PowerLaw(0.85, 1.5, 0.4)(SIZES) + rng.normal(0, 0.01, len(SIZES))
    found = fit_power_law(SIZES, y)

    def error(law):
        return float(((y - law(SIZES)) ** 2).sum())

    for c, a, b in rng.normal(0, 0.01, (50, 3)):
        assert error(found) <= error(PowerLaw(found.ceiling + c, found.scale + a, found.exponent + b)) + 1e-9


def test_a_forecast_by_hand():
    # Laws .9 − s · n^(−½), from 100 to 400 pairs: gain s · (1/10 − 1/20) = s/20. s = 2: .1; of s = 1 … 3: .05 … .15.
    laws = [PowerLaw(0.9, s, 0.5) for s in (1, 2, 3)]
    found = forecast(laws[1], laws, pairs=100, more=300, confidence=1.0)
    assert (found.gain, found.low, found.high) == (pytest.approx(0.1), pytest.approx(0.05), pytest.approx(0.15))
    assert found.sentence == "300 more pairs: +10.0 ± 5.0 points"
    assert Forecast(1000, 1200, -0.001, -0.0075, 0.0045).sentence == "1,200 more pairs: -0.1 ± 0.6 points"
    half = forecast(laws[1], laws, pairs=100, more=300, confidence=0.5)
    assert (half.low, half.high) == (pytest.approx(0.075), pytest.approx(0.125))


def test_the_band_by_hand():
    low, high = band([PowerLaw(0.9, s, 0.5) for s in (1, 2, 3)], [100, 400], confidence=1.0)
    assert low == pytest.approx([0.6, 0.75])
    assert high == pytest.approx([0.8, 0.85])


@pytest.mark.slow
def test_intervals_cover_the_truth_about_as_often_as_they_say():
    truth = PowerLaw(0.8, 2.0, 0.5)
    gain = float(truth([4000])[0] - truth([2000])[0])
    covered = 0
    for seed in range(20):
        y = truth(SIZES) + np.random.default_rng(seed).normal(0, 0.01, len(SIZES))
        found = forecast(
            fit_power_law(SIZES, y), resampled_laws(SIZES, y, seed=seed, resamples=60), pairs=2000, more=2000
        )
        covered += found.low <= gain <= found.high
    assert covered >= 16


def test_the_resampled_spread_is_the_residual_one_with_its_degrees_of_freedom():
    """At a size in the middle, fixed by many points, the standard deviation of the laws is about s/√k."""
    y = PowerLaw(0.8, 2.0, 0.5)(SIZES) + 0.02 * np.tile([1, 0, -1], 5)
    # Residuals ±.02 and 0 in each size: Σ = 10 · .0004, s = √(.004 / 12) = .01826.
    laws = resampled_laws(SIZES, y, seed=0, resamples=150)
    spread = np.std([law([500])[0] for law in laws])
    assert 0.004 < spread < 0.0085
    assert resampled_laws(SIZES, y, seed=0, resamples=2) == laws[:2]
    assert resampled_laws(SIZES, y, seed=1, resamples=1) != laws[:1]


def test_too_few_points_have_no_interval():
    with pytest.raises(AssertionError):
        resampled_laws([1, 2, 3], [0.5, 0.6, 0.7], seed=0)
