"""What the start run's samples show: examples by hand, an oracle by another route, and controls."""

import itertools

import numpy as np
import pytest

from reward.passport.samples import POWERS, best_of_rises, best_of_slopes, sample_finding, teaching_share

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(40, 16)) + RNG.normal(size=(40, 1))


def test_teaches_by_hand():
    # Within prompts: (1 + 1) + (1 + 1) = 4; around the mean of all, 3: 9 + 1 + 1 + 9 = 20.
    found = teaching_share(np.array([[0.0, 2.0], [4.0, 6.0]]), seed=0)
    assert found.mean == pytest.approx(4 / 20)
    assert (found.count, found.prompts) == (4, 2)


def test_teaches_is_what_is_left_of_the_variance_between_prompts():
    between = np.repeat(SCORES.mean(axis=1), SCORES.shape[1])
    explained = np.corrcoef(SCORES.ravel(), between)[0, 1] ** 2  # R² of the regression on prompts
    found = teaching_share(SCORES, seed=0)
    assert found.mean == pytest.approx(1 - explained)
    assert 0 < found.low < found.mean < found.high < 1


@pytest.mark.parametrize(("scores", "share"), [(np.ones((5, 16)), 0.0), (np.repeat(SCORES[:, :1], 16, axis=1), 0.0)])
def test_a_model_that_scores_all_answers_to_a_prompt_alike_teaches_nothing(scores, share):
    assert teaching_share(scores, seed=0).mean == share
    assert best_of_slopes(best_of_rises(scores, SCORES[: len(scores)])) == pytest.approx(0.0, abs=1e-12)


def test_teaches_has_no_scale():
    assert teaching_share(7 * SCORES - 3, seed=0).mean == pytest.approx(teaching_share(SCORES, seed=0).mean)


def test_rises_are_those_of_every_draw():
    scores, values = SCORES[:3], RNG.normal(size=(3, 16))
    for row, n in enumerate(POWERS[:3]):
        drawn = [list(d) for d in itertools.combinations(range(16), n)]
        best = [[v[d][s[d].argmax()] for d in drawn] for s, v in zip(scores, values, strict=True)]
        expected = np.mean(best, axis=1) - values.mean(axis=1)
        assert best_of_rises(scores, values)[row] == pytest.approx(expected, abs=1e-12)


def test_the_slope_of_a_straight_line():
    roots = np.sqrt(np.log(POWERS) - 1 + 1 / np.array(POWERS))
    assert best_of_slopes(np.outer(roots, [0.5, -2.0])) == pytest.approx([0.5, -2.0])


def test_who_agrees_rises_who_contradicts_falls_and_chance_stays():
    found = sample_finding(SCORES, SCORES, seed=0)
    assert found.judge_slope == found.own_slope
    assert found.own_slope.low > 0.5
    assert found.best_of[0].own == pytest.approx(0.0)
    assert [point.n for point in found.best_of] == [1, 2, 4, 8, 16]
    assert sample_finding(SCORES, -SCORES, seed=0).judge_slope.mean == pytest.approx(-found.own_slope.mean)
    chance = sample_finding(RNG.normal(size=SCORES.shape), SCORES, seed=0)
    assert abs(chance.judge_slope.mean) < 0.2
    assert chance.judge_slope.low < 0 < chance.judge_slope.high
    alone = sample_finding(SCORES, None, seed=0)
    assert (alone.judge_slope, alone.best_of[-1].judge) == (None, None)
