"""Paired statistics over seeds and prompts: by hand, against other implementations, and by simulation."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.multitest import multipletests

from workbench.compare.paired import (
    Variances,
    all_pairs,
    combined,
    differences,
    first_shares,
    holm,
    interval,
    power,
    self_test,
    size_for,
    variances,
)
from workbench.evaluate.statistics import bootstrap_interval


def simulated(rng, parts, shape, mean=0.0):
    """(…, S, G) differences with the given variance components."""
    *leading, seeds, prompts = shape
    return (
        mean
        + rng.normal(0, np.sqrt(parts.seed), (*leading, seeds, 1))
        + rng.normal(0, np.sqrt(parts.prompt), (*leading, 1, prompts))
        + rng.normal(0, np.sqrt(parts.noise), shape)
    )


def test_interval_by_hand():
    # Seeds have means 2 and 3: variance ½, over 2 seeds ¼. Prompts have means 1.5 and 3.5: variance 1, over 2 ½.
    # t(1) = 12.7062 for both: half = 12.7062 √(¼ + ½) = 11.0039. p: t = 2.5 / √¾ = 2.8868 with 1 degree of freedom.
    found = interval(np.array([[1.0, 3.0], [2.0, 4.0]]))
    assert (found.mean, found.low, found.high) == pytest.approx((2.5, 2.5 - 11.0039, 2.5 + 11.0039), abs=1e-4)
    assert found.p == pytest.approx(2 * stats.t.sf(2.5 / np.sqrt(0.75), 1))


def test_one_seed_is_a_bootstrap_over_prompts():
    values = np.random.default_rng(0).normal(0.3, 1.0, (1, 500))
    found, drawn = interval(values), bootstrap_interval(values[0], seed=0, resamples=20_000)
    assert (found.low, found.high) == pytest.approx((drawn.low, drawn.high), abs=0.004)


def test_prompts_that_agree_leave_student_over_seeds():
    seeds = np.array([0.1, 0.4, 0.2])
    found = interval(np.repeat(seeds[:, None], 50, axis=1))
    assert found.p == pytest.approx(stats.ttest_1samp(seeds, 0).pvalue)


def test_interval_properties():
    values = np.random.default_rng(1).normal(0.2, 1.0, (4, 3, 30))
    found, turned, shifted = interval(values), interval(-values), interval(values + 1)
    np.testing.assert_allclose(turned.low, -found.high)
    np.testing.assert_allclose(turned.p, found.p)
    np.testing.assert_allclose(shifted.high - shifted.low, found.high - found.low)
    np.testing.assert_array_equal((found.low > 0) | (found.high < 0), found.p < 0.05)
    for number, one in enumerate(values):
        assert interval(one).p == pytest.approx(found.p[number])
    nothing = interval(np.zeros((2, 5)))
    assert (nothing.mean, nothing.low, nothing.high, nothing.p) == (0, 0, 0, 1)
    assert interval(np.ones((2, 5))).p < 1e-11


@pytest.mark.parametrize(
    "parts", [Variances(0, 0, 1), Variances(0.01, 0, 0.5), Variances(0, 0.3, 0.5), Variances(0.05, 0.3, 0.2)]
)
@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_no_difference_is_reported_as_one_in_at_most_a_twentieth(parts, seeds):
    rng = np.random.default_rng(seeds)
    found = interval(simulated(rng, parts, (1500, seeds, 60)))
    assert (found.p < 0.05).mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1500)


def test_two_methods_are_the_interval_of_their_difference():
    values = np.random.default_rng(2).normal(size=(2, 3, 20))
    found, alone = differences(values), interval(values[0] - values[1])
    assert found.p[0] == pytest.approx(alone.p)
    assert found.low[0] == pytest.approx(alone.low)
    one_seed = values[:, :1]
    assert differences(one_seed).p[0] == pytest.approx(interval(one_seed[0] - one_seed[1]).p)


def test_the_variance_over_seeds_is_pooled_over_methods():
    """By an analysis of variance of statsmodels: without noise of prompts only the seeds count."""
    rng = np.random.default_rng(9)
    table = rng.normal(size=(5, 3))
    found = differences(np.repeat(table[:, :, None], 10, axis=2))
    frame = pd.DataFrame(
        [{"y": table[m, s], "method": m, "seed": s} for m in range(5) for s in range(3)],
    )
    fit = ols("y ~ C(method) + C(seed)", frame).fit()
    for number, (i, j) in enumerate(all_pairs(5)):
        gap = table[i] - table[j]
        assert found.mean[number] == pytest.approx(gap.mean())
        variance = max(2 * fit.mse_resid, gap.var(ddof=1)) / 3
        p = 2 * stats.t.sf(abs(gap.mean()) / np.sqrt(variance), fit.df_resid)
        assert found.p[number] == pytest.approx(p)
    some = differences(np.repeat(table[:, :, None], 10, axis=2), [(1, 3)])
    assert some.p[0] == found.p[all_pairs(5).index((1, 3))]


@pytest.mark.parametrize("seeds", [2, 3])
def test_no_method_is_told_apart_from_equal_ones(seeds):
    """The chance of any difference among six equal methods, after Holm's correction."""
    rng, parts, wrong = np.random.default_rng(seeds), Variances(0.02, 0.1, 0.2), 0
    for _ in range(200):
        values = simulated(rng, parts, (6, seeds, 40)) / np.sqrt(2)
        wrong += bool((holm(differences(values).p) < 0.05).any())
    assert wrong / 200 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


def test_holm_is_that_of_statsmodels():
    rng = np.random.default_rng(3)
    for p in (rng.random(12) ** 4, np.array([0.01, 0.01, 0.04]), np.array([0.2])):
        np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])
    table = rng.random((5, 6)) ** 3
    np.testing.assert_allclose(holm(table), [multipletests(p, method="holm")[1] for p in table])


def test_first_shares():
    rng = np.random.default_rng(4)
    values = rng.normal(size=(3, 3, 200))
    assert first_shares(values + np.array([0, 5, 0])[:, None, None], seed=0).tolist() == [0, 1, 0]
    shares = first_shares(values - values.mean((1, 2), keepdims=True), seed=0)
    assert shares.sum() == pytest.approx(1)
    assert shares.min() > 0.1


def test_the_comparison_favours_nobody_by_itself():
    """Answers of three methods that are equal, with prompts of different difficulty and runs of different luck."""
    rng = np.random.default_rng(5)
    luck, difficulty = rng.normal(0, 0.05, (3, 3, 1, 1)), rng.normal(0, 0.3, (1, 1, 200, 1))
    answers = luck + difficulty + rng.normal(0, 0.4, (3, 3, 200, 2))
    tested = self_test(answers, gain=0.2, seed=0)
    assert tested.aa_false_share <= 0.05
    assert tested.shuffled_false_share <= 0.05
    assert tested.planted_share >= 0.8
    assert self_test(answers, gain=0.0, seed=0).planted_share <= 0.05
    assert tested.repeats == 200


def test_a_real_difference_is_not_split_away():
    """The negative control: dealt at random a difference is gone, in the answers as they are it is found."""
    rng = np.random.default_rng(6)
    answers = rng.normal(0, 0.4, (3, 3, 400, 2)) + np.array([0, 0, 0.5])[:, None, None, None]
    assert self_test(answers, gain=0.03, seed=0).shuffled_false_share <= 0.05
    found = differences(answers.mean(-1))
    assert (holm(found.p) < 0.05).tolist() == [False, True, True]


def test_variance_components_are_recovered():
    rng = np.random.default_rng(7)
    # Two methods, so one pair; its difference has the components of their sum.
    first = simulated(rng, Variances(0.04, 0.3, 0.5), (40, 400))
    found = variances(np.stack([first, np.zeros_like(first)]))
    assert found.seed == pytest.approx(0.04, rel=0.5)
    assert found.prompt == pytest.approx(0.3, rel=0.2)
    assert found.noise == pytest.approx(0.5, rel=0.05)
    none = variances(np.stack([rng.normal(size=(3, 50)), np.zeros((3, 50))]))
    assert none.seed >= 0
    assert none.prompt >= 0


@pytest.mark.parametrize(("seeds", "prompts"), [(1, 400), (3, 100), (6, 400)])
def test_power_is_the_share_found_in_simulated_comparisons(seeds, prompts):
    parts = Variances(0.0004, 0.05, 0.2)
    values = simulated(np.random.default_rng(8), parts, (2000, seeds, prompts), mean=0.05)
    share = (interval(values).low > 0).mean()
    assert power(0.05, parts, methods=2, seeds=seeds, prompts=prompts) == pytest.approx(share, abs=0.04)
    assert power(0.05, parts, methods=9, seeds=seeds, prompts=prompts) >= share - 0.04


def test_the_size_that_finds_a_gain():
    parts = Variances(0.0004, 0.02, 0.2)
    found = size_for(0.03, parts, methods=4, prompts=400)
    assert found is not None
    seeds, prompts = found
    assert prompts == 400
    enough, fewer = (power(0.03, parts, methods=4, seeds=number, prompts=400) for number in (seeds, seeds - 1))
    assert enough >= 0.8 > fewer
    assert size_for(0.03, Variances(0, 1.0, 0.1), methods=4, prompts=100) is None
    assert size_for(0.03, Variances(0, 0.2, 0.05), methods=4, prompts=400)[1] > 400


def test_combined_takes_seeds_and_prompts_apart():
    alone = combined(np.array(1.0), np.array(0.04), 2, np.array(0.0), 99)
    assert alone.p == pytest.approx(2 * stats.t.sf(5, 2))
    alone = combined(np.array(1.0), np.array(0.0), 2, np.array(0.04), 99)
    assert alone.p == pytest.approx(2 * stats.t.sf(5, 99))
