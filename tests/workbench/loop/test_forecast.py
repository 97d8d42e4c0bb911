"""Forecasts of the next round: by hand, in limits, and how often they hold on known curves."""

import numpy as np
import pytest

from benchmarks.round_forecast import CURVES, coverage
from workbench.loop.forecast import EXPONENTS, NOISE, forecast, law


def gains(*means, prompts=200, sd=0.0):
    """Gains over the supervised model whose means over prompts are exact."""
    noise = np.linspace(-1, 1, prompts) * sd
    return np.array(means)[:, None] + noise


def test_the_law_by_hand():
    # b = 0: n / k. b = 1: ln(1 + 3) = 1.386. b = 2: 1 − 1/(1 + 3) = .75.
    assert law([300], 0.0, 100) == pytest.approx(3.0)
    assert law([300], 1.0, 100) == pytest.approx(np.log(4))
    assert law([300], 2.0, 100) == pytest.approx(0.75)


def test_the_mean_after_one_round_by_hand():
    # One round tells nothing about the exponent: all have the same weight. Ratio of the next 100 labels to the first:
    # b = 0: 1, b = 1: ln(3/2)/ln 2, b = 2: (1/2 − 1/3)/(1/2) = 1/3, …
    ratios = [(law(200, b, 100) - law(100, b, 100)) / law(100, b, 100) for b in EXPONENTS]
    found = forecast([100], gains(0.1, sd=0.05), 100)
    assert found.per_100.mean == pytest.approx(0.1 * np.mean(ratios))
    assert found.measured.mean == pytest.approx(found.per_100.mean)
    assert found.measured.low < found.per_100.low < found.per_100.high < found.measured.high, "luck comes on top"


def test_equal_gains_are_expected_to_go_on_and_gains_that_ended_are_not():
    steady = forecast([100, 200, 300], gains(0.1, 0.2, 0.3), 200)
    assert steady.per_100.mean == pytest.approx(0.1, rel=0.1)
    assert steady.per_100.low > 0.05
    assert steady.measured.mean == pytest.approx(0.2, rel=0.1)
    ended = forecast([100, 200, 300], gains(0.2, 0.21, 0.21, sd=0.02), 100)
    assert ended.per_100.low < 0 < ended.per_100.high
    fallen = forecast([100, 200], gains(0.2, 0.1, sd=0.02), 100)
    assert fallen.per_100.mean < 0


def test_the_unit_and_the_number_of_labels_scale():
    one = forecast([100, 250], gains(0.2, 0.3, sd=0.1), 150)
    tenfold = forecast([100, 250], gains(2.0, 3.0, sd=1.0), 150)
    for name in ("measured", "per_100"):
        for side in ("mean", "low", "high"):
            assert getattr(getattr(tenfold, name), side) == pytest.approx(10 * getattr(getattr(one, name), side))
    assert forecast([1000, 2500], gains(0.2, 0.3, sd=0.1), 1500).measured == one.measured
    assert (one.labels, one.more) == (250, 150)


def test_policies_that_do_not_differ_are_expected_to_stay_so():
    found = forecast([10, 20], gains(0.0, 0.0), 10)
    assert found.measured.mean == pytest.approx(0, abs=1e-6)
    assert found.measured.low <= 0 <= found.measured.high
    assert max(NOISE) < 1


@pytest.mark.parametrize("curve", ["equal gains", "power law", "exponential, fast", "no gain", "a rise, then a fall"])
def test_intervals_hold_on_known_curves(curve):
    """Few simulated loops; `python -m benchmarks.round_forecast` has many."""
    found = coverage(CURVES[curve], 3, 12)
    assert found["measured_holds"] > 0.8
    assert found["per_100_holds"] > 0.8
    if curve in ("no gain", "a rise, then a fall"):
        assert found["gain_shown"] < 0.1
    if curve == "equal gains":
        assert found["gain_shown"] > 0.2
