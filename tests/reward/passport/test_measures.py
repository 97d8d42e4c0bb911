"""The statistics of an examination: examples by hand, oracles by another route, limits."""

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from reward.passport.measures import (
    correlation_within_interval,
    fit_temperature,
    half_of_groups,
    judgement_agreement,
    majority_right,
    noise_ceiling,
    raised,
    right_of_agreement,
    slices,
    telling_words,
    thirds,
)
from tests.reference.tolerances import EXACT
from workbench.evaluate.metrics import correlation_within


def agreeing_couples(votes):
    """The oracle: every pair of judgements; a tie agrees half with anything."""
    couples = list(itertools.combinations(votes, 2))
    return sum(0.5 if 0 in couple else float(couple[0] == couple[1]) for couple in couples) / len(couples)


@pytest.mark.parametrize(
    "votes", [(1, 1), (1, -1), (1, 1, -1), (1, 1, 1), (1, 1, 0), (1, 1, 1, -1, -1), (1, 0), (1, 1, -1, 0)]
)
def test_agreement_of_every_couple_of_judgements(votes):
    share = sum(0.5 + vote / 2 for vote in votes) / len(votes)
    assert judgement_agreement([share], [len(votes)]) == pytest.approx(agreeing_couples(votes))


def test_agreement_of_two_to_one_is_a_third():
    # Three pairs of judgements of (a, a, b): only a-a agree.
    assert judgement_agreement([2 / 3, 1.0], [3, 3]).tolist() == pytest.approx([1 / 3, 1.0])


def test_agreement_is_unbiased_for_q_squared_plus_the_rest_squared():
    rng = np.random.default_rng(0)
    votes = rng.random((200_000, 3)) < 0.8
    assert judgement_agreement(votes.mean(1), np.full(len(votes), 3)).mean() == pytest.approx(0.68, abs=0.003)


def test_right_of_agreement_turns_it_round():
    for q in (0.5, 0.6, 0.85, 1.0):
        assert right_of_agreement(q**2 + (1 - q) ** 2) == pytest.approx(q, abs=1e-7)
    assert right_of_agreement(0.4) == 0.5, "people who contradict one another know nothing"


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_the_majority_by_every_outcome(count):
    total = 0.0
    for votes in itertools.product((True, False), repeat=count):
        chance = math.prod(0.8 if vote else 0.2 for vote in votes)
        total += chance * (1.0 if sum(votes) * 2 > count else 0.5 if sum(votes) * 2 == count else 0.0)
    assert majority_right(0.8, count) == pytest.approx(total)


def test_two_judges_are_no_better_than_one_and_three_are():
    assert majority_right(0.8, 2) == pytest.approx(0.8)
    assert majority_right(0.8, 3) == pytest.approx(0.8**3 + 3 * 0.8**2 * 0.2)  # 0.896


def test_the_ceiling_of_simulated_judges():
    """Judgements are right with probability .8: single labels have a ceiling of .8, majorities of three .896."""
    rng = np.random.default_rng(1)
    votes = (rng.random((4000, 3)) < 0.8).mean(1)
    shares, groups = np.maximum(votes, 1 - votes), [f"g{n}" for n in range(4000)]
    single = noise_ceiling(shares, np.full(4000, 3), groups, [1] * 10, seed=0)
    assert single.mean == pytest.approx(0.8, abs=0.01)
    assert single.low < 0.8 < single.high
    assert single.count == 4000
    mixed = noise_ceiling(shares, np.full(4000, 3), groups, [0, 1, 3, 3], seed=0)
    assert mixed.mean == pytest.approx((0.8 + 0.896) / 2, abs=0.01)


def test_temperature_of_boasted_gaps():
    rng = np.random.default_rng(2)
    true = rng.normal(0, 2, 20_000)
    labelled = np.where(rng.random(20_000) < expit(true), true, -true)
    assert fit_temperature(3 * labelled) == pytest.approx(3, rel=0.05)
    assert fit_temperature(labelled / 2) == pytest.approx(0.5, rel=0.05)


def test_temperature_by_another_route():
    gaps = np.array([0.3, -0.2, 1.0, 2.0, -0.5, 0.1, 3.0])
    found = minimize(lambda t: -np.log(expit(gaps / t[0])).mean(), x0=[1.0], method="Nelder-Mead", tol=1e-10)
    assert fit_temperature(gaps) == pytest.approx(found.x[0], rel=1e-4)


def test_temperature_of_certainty_and_of_nonsense_is_bounded():
    assert fit_temperature([1.0, 2.0]) == pytest.approx(0.01, rel=0.01)
    assert fit_temperature([-1.0, -2.0]) == pytest.approx(100, rel=0.01)


def test_halves_keep_prompts_whole():
    groups = ["a", "b", "a", "c", "d", "e", "b"]
    half = half_of_groups(groups, seed=0)
    assert len({g for g, inside in zip(groups, half, strict=True) if inside}) == 2
    assert not {g for g, i in zip(groups, half, strict=True) if i} & {
        g for g, i in zip(groups, half, strict=True) if not i
    }
    assert any((half_of_groups(groups, seed=s) != half).any() for s in range(1, 5))


def test_raised_counts_strict_rises():
    found = raised([1.0, 2.0, 3.0, 4.0], [1.5, 2.0, 2.0, 5.0], ["a", "b", "c", "d"])
    assert (found.mean, found.count) == (0.5, 4)


def test_correlation_within_and_its_interval():
    rng = np.random.default_rng(3)
    groups = [f"g{n // 2}" for n in range(600)]
    shift = np.repeat(rng.normal(0, 10, 300), 2)
    length = rng.normal(0, 1, 600)
    score = 5 * (0.6 * length + 0.8 * rng.normal(0, 1, 600))
    found = correlation_within_interval(score + shift, length - shift, groups, seed=0)
    assert found.mean == pytest.approx(
        correlation_within(score + shift, length - shift, groups), **{"rel": EXACT["rtol"]}
    )
    assert found.low < 0.6 < found.high
    assert found.high - found.low < 0.2
    assert (found.count, found.prompts) == (600, 300)
    assert correlation_within_interval([1.0, 1.0], [1.0, 2.0], ["a", "a"], seed=0) is None


def test_slices_by_hand():
    found = slices([1.0, -1.0, 2.0, 3.0], ["a", "b", "c", "d"], {"strength": ["1", "1", "3", None], "none": [None] * 4})
    assert [(s.by, s.name, s.accuracy.mean, s.accuracy.count) for s in found] == [
        ("strength", "1", 0.5, 2),
        ("strength", "3", 1.0, 1),
    ]


def test_thirds():
    assert thirds([1, 2, 3, 4, 5, 6], ("s", "m", "l")) == ["s", "s", "m", "m", "l", "l"]
    assert thirds([5, 5, 5], ("s", "m", "l")) == ["s", "s", "s"]


def test_words_that_tell_the_label():
    chosen, rejected = ["Yes good good day", "good night", "fine"], ["no day", "no good", "no bad"]
    found = telling_words(chosen, rejected, most=3)
    # "no": only in rejected in all three pairs. "good": only in chosen in the first, in both answers of the second.
    assert found[0] == ("no", -1.0)
    assert dict(telling_words(chosen, rejected, most=99))["good"] == pytest.approx(1 / 3)
    assert [word for word, _ in found[1:]] == ["bad", "fine"]
