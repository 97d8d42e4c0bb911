"""The replay of spot checks on courses that are made by hand."""

import numpy as np
import pytest

from benchmarks import spot_checks
from benchmarks.spot_checks import CHECKS, ITERATIONS, MOST, SECTION, Course, figures, first_alarm, judged, wilson_alarm
from ppo.people.evidence import AT_RANDOM, SUREST, evidence
from ppo.people.pairs import RANDOM_SHARE


def course(margins, *, gap=1.0, sound=False, rise=1.0):
    """A run whose policy has these gold margins at its checks, each for 60 pairs; the last half has this score gap."""
    scores = np.linspace(0.0, rise, ITERATIONS).tolist()
    iterations = list(range(SECTION.every, ITERATIONS, SECTION.every))
    every = np.repeat(np.array(margins)[:, None], 60, axis=1)
    return Course("made", 0, sound, scores, iterations, every, np.repeat([[0.0, gap]], 30, axis=1).repeat(CHECKS, 0))


def test_the_shipped_kinds_of_runs_are_known():
    assert {name for name, _ in spot_checks.RUNS} <= {spec.name for spec in spot_checks.SPECS}
    assert len(course([0.0] * CHECKS).iterations) == CHECKS


def test_annotators_mostly_agree_with_large_margins():
    generator = np.random.default_rng(0)
    assert judged(np.full(400, 0.8), generator).mean() == pytest.approx(0.9, abs=0.06)
    assert judged(np.full(400, -0.8), generator).mean() == pytest.approx(0.1, abs=0.06)
    assert set(judged(np.zeros(400), generator)) == {0.0, 0.5, 1.0}


def test_a_check_has_random_pairs_and_those_with_the_largest_gaps():
    made = course([0.0] * CHECKS)
    made.margins[0] = np.arange(60)
    margins, expected = made.draw(0, np.random.default_rng(0), RANDOM_SHARE)
    assert len(set(margins)) == SECTION.pairs == len(expected)
    assert (expected == AT_RANDOM).sum() == SECTION.pairs * RANDOM_SHARE
    assert margins[expected == SUREST].min() >= 30
    assert (made.draw(0, np.random.default_rng(0), 1.0)[1] == AT_RANDOM).all()


def test_the_first_alarm_is_that_of_the_run():
    checks, expected = [1] * 40, np.full(40, SUREST)
    outcomes = np.zeros(40)
    alarm = first_alarm(course([-1.0] * CHECKS), checks, outcomes, expected)
    assert alarm is not None
    assert evidence(checks[:alarm], [0.0] * alarm, [SUREST] * alarm, CHECKS).value >= 1 / SECTION.alpha
    assert evidence(checks[: alarm - 1], [0.0] * (alarm - 1), [SUREST] * (alarm - 1), CHECKS).value < 1 / SECTION.alpha
    falling = course([-1.0] * CHECKS, rise=-1.0)
    assert first_alarm(falling, checks, outcomes, expected) is None, "the reward fell as well"
    assert wilson_alarm(outcomes) == 10


def test_figures_tell_sound_from_hacked():
    hacked = [0.2, 0.0, *[-0.8] * (CHECKS - 2)]
    found = figures([course([0.6] * CHECKS, sound=True), course(hacked)], 20)
    assert (found["sound"], found["hacked"], found["shipped"]["paused_sound"]) == (1, 1, 0.0)
    assert 2 < found["shipped"]["judgements_at_power_.9"] < found["random"]["judgements_at_power_.9"] < MOST
    assert found["runs"][1]["worse_from_check"] in (2, 3)
