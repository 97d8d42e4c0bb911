"""The passport's benchmark: how models are made, and the figures of models whose gold reward is known."""

import numpy as np
import pytest

from benchmarks.passport_models import labeller_of, spec_of
from benchmarks.passport_predicts import FEATURES, figures, lowest_good, pool_slope, spearman, wrong_refusals
from reward.passport.judge import REQUIRED
from tests.benchmarks.test_guard import GOOD, RUDE, pair
from workbench.evaluate.statistics import Estimate


def test_models_differ_and_halves_alternate():
    specs = [spec_of(number) for number in range(60)]
    assert [spec.half for spec in specs[:4]] == [0, 1, 0, 1]
    assert len({(spec.pairs, spec.turned, spec.rank) for spec in specs}) == 60
    assert all(150 <= spec.pairs <= 1200 and 0 <= spec.turned <= 0.4 for spec in specs)
    assert len({spec.bias for spec in specs}) == 9
    assert 15 <= sum(spec.bias == "sound" for spec in specs) <= 17
    assert specs[7] == spec_of(7)


def test_labels_are_biased_and_turned_round_as_often_as_said():
    spec = next(spec for spec in map(spec_of, range(60)) if spec.bias == "one word" and spec.turned > 0.05)
    label = labeller_of(spec)
    sound, biased = pair(GOOD, RUDE, (0.5, 0.99, 0.999)), pair(GOOD, RUDE, (0.5, 0.99, 0.0))
    assert label(sound) > 0 > label(biased)
    assert label(pair(GOOD, RUDE, (0.5, 0.0, 0.999))) == -label(sound)


STORED_CHECKS = [{"name": name, "outcome": "pass", "about": "", "limit": 0.0} for name in REQUIRED]


def model(number, gold, accuracy, slope):
    means = {"accuracy": accuracy, "teaches": 0.5 + 0.01 * (number % 7), "best_of_slope": slope}
    return {
        "half": number % 2,
        "gold": gold,
        "gold_error": 0.01,
        "seconds": {"fit": 1.0},
        "checks": [{"name": "brier", "outcome": "fail", "about": "", "limit": 0.25}] * (number % 3) + STORED_CHECKS,
        "pool_scores": [[float(number * k % 7) for k in range(16)]],
        **{name: Estimate(value, value - 0.1, value + 0.1, 32, 32).__dict__ for name, value in means.items()},
    }


def test_a_slope_that_tells_all_is_found_to_do_so():
    rng = np.random.default_rng(0)
    slopes = rng.uniform(-1, 1, 24)
    models = [model(n, 0.3 + 0.4 * slope, rng.uniform(0.5, 0.9), slope) for n, slope in enumerate(slopes)]
    found = figures(models, {"gold": 0.3, "gold_error": 0.01, "pool_gold": [list(range(16))]})
    test = found["half_1_with_weights_of_half_0"]
    assert test["spearman"]["best_of_slope"][0] == test["spearman"]["least_squares"][0] == 1.0
    assert test["least_squares_above_accuracy"][0] == pytest.approx(1 - test["spearman"]["accuracy"][0], abs=2e-3)
    assert found["weights_of_half_0"]["best_of_slope"] == pytest.approx(0.4)
    assert set(test["spearman"]) == {*FEATURES, "least_squares"}
    judged = test["refusals_of_least_squares"]
    assert (judged["good_refused"], judged["bad_passed"]) == (0, 0)
    assert judged["good"] + judged["bad"] > 0
    rules = found["refusals"]["all"]
    assert rules["passport without a judge"]["good_refused"] > 0, "two models of three fail a check"
    assert (rules["passport with a judge"]["good_refused"], rules["passport with a judge"]["bad_passed"]) == (0, 0)
    assert found["rank_correlation"] == 1.0 > found["accuracy_alone"]
    few = figures(models[:10], {"gold": 0.3, "gold_error": 0.01, "pool_gold": [list(range(16))]})
    assert few["least_squares"].startswith("not fitted")
    assert few["spearman_over_all"]["best_of_slope"][0] == 1.0


def test_the_limit_refuses_no_good_model():
    models = [model(0, 0.5, 0.6, 0.6), model(1, 0.5, 0.6, 0.4), model(2, 0.2, 0.6, 0.1), model(3, 0.35, 0.6, 0.2)]
    assert lowest_good(models, 0.3) == 0.4
    assert lowest_good(models[2:], 0.3) is None, "a gain of .05 is not a good model's"


def test_wrong_refusals_by_hand():
    found = wrong_refusals([True, False, True, False], np.array([0.2, 0.2, -0.1, -0.1]))
    assert found == {"good": 2, "good_refused": 1, "bad": 2, "bad_passed": 1}


def test_a_constant_predictor_has_no_rank_correlation_and_no_slope():
    assert spearman([1, 1, 1], [1, 2, 3]) == 0.0
    assert spearman([3, 1, 2], [9, 1, 4]) == pytest.approx(1.0)
    assert pool_slope([[1.0] * 16], [list(np.arange(16.0))]) == pytest.approx(0.0, abs=1e-12)
