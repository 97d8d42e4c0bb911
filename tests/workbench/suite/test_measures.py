"""Metrics as sums per prompt: intervals, paired differences, sign tests and gates."""

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from scipy.stats import binom

from workbench.evaluate.statistics import bootstrap_interval, wilson_interval
from workbench.suite.measures import Difference, Measure, exp_ratio, mean_of_ratios, sign_test
from workbench.suite.rewards import choice_credit
from workbench.suite.texts import bleu_of, bleu_rows

ANSWERS = ["the cat sat on the mat", "a dog barks at the moon", "it is raining today again"]
REFERENCES = ["the cat sat on a mat", "the dog barked at the moon", "it is raining again today"]


def test_a_mean_has_the_interval_of_the_ordinary_bootstrap():
    values = np.random.default_rng(0).normal(2, 1, 300)
    prompts = [number // 3 for number in range(300)]
    found, usual = Measure.mean(values, prompts).estimate(0), bootstrap_interval(values, prompts, seed=0)
    assert found.mean == pytest.approx(usual.mean)
    assert (found.low, found.high) == pytest.approx((usual.low, usual.high), abs=0.02)


@pytest.mark.parametrize("successes", [0, 7, 50])
def test_a_share_has_wilsons_interval_also_at_its_ends(successes):
    values = np.arange(50) < successes
    found = Measure.mean(values.astype(float), share=True).estimate(0)
    assert (found.low, found.high) == pytest.approx(wilson_interval(successes, 50), abs=0.01)
    assert found.low < found.high


def test_perplexity_weighs_texts_by_their_tokens():
    rows = np.array([[1.0, 1.0], [4.0, 2.0]])
    assert Measure(rows, exp_ratio).estimate(0).mean == pytest.approx(np.exp(5 / 3))


def test_corpus_bleu_is_sacrebleus_on_any_draw_of_prompts():
    measure = Measure(bleu_rows(ANSWERS, REFERENCES), bleu_of)
    for index in ([0, 1, 2], [2, 2, 0]):
        expected = BLEU().corpus_score([ANSWERS[i] for i in index], [[REFERENCES[i] for i in index]]).score
        weights = np.bincount(index, minlength=3).astype(float)[None]
        assert measure.values(weights)[0] == pytest.approx(expected)
        assert measure.drawn(index).estimate(0).mean == pytest.approx(expected)


def test_a_difference_is_paired():
    noise = np.random.default_rng(0).normal(0, 10, 200)
    found = Difference(Measure.mean(noise + 0.5), Measure.mean(noise)).estimate(0)
    assert (found.mean, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))


def test_the_sign_test_is_exact_and_leaves_zeros_out():
    found = sign_test([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, -1.0, 0.0])
    assert (found.positive, found.negative) == (7, 1)
    assert found.p == pytest.approx(2 * binom.cdf(1, 8, 0.5))
    assert sign_test([0.0, 0.0]).p == 1.0


@pytest.mark.parametrize(
    ("right", "wrong", "credit"),
    [
        ([2.0], [1.0, 0.0, -1.0], 1.0),
        ([1.0], [1.0, 0.0, 1.0], 1 / 3),
        ([0.0], [1.0, 0.0, -1.0], 0.0),
        ([2.0, 1.5], [1.0], 1.0),
        ([2.0, 1.0], [1.0], 0.0),
    ],
)
def test_the_credit_of_a_choice(right, wrong, credit):
    assert choice_credit(np.array(right), np.array(wrong)) == pytest.approx(credit)


def test_subsets_weigh_the_same():
    assert mean_of_ratios(np.array([[9.0, 10.0, 1.0, 2.0], [0.0, 0.0, 1.0, 2.0]])) == pytest.approx([0.7, 0.5])


def test_the_mean_of_subsets_has_a_width_even_if_none_succeeds():
    rows = np.array([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])  # one choice in each of two subsets
    found = Measure(rows, mean_of_ratios, share=True).estimate(0)
    assert (found.mean, found.low, found.high) == pytest.approx((0.0, *wilson_interval(0, 2)))
    credits = np.array([1.0, 1.0, 0.0, 1.0])
    alone = Measure(np.stack([credits, np.ones(4)], axis=1), mean_of_ratios, share=True).estimate(0)
    assert (alone.mean, alone.low, alone.high) == pytest.approx((0.75, *wilson_interval(3, 4)))
    uneven = np.array([[1.0, 1.0, 0.0, 0.0]] * 8 + [[0.0, 0.0, 0.0, 1.0]] * 2)  # n* = 4 / (1/8 + 1/2) = 6.4
    found = Measure(uneven, mean_of_ratios, share=True).estimate(0)
    assert (found.mean, found.low, found.high) == pytest.approx((0.5, *wilson_interval(3.2, 6.4)))
