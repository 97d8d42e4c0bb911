"""The replay of spot checks on courses that are made by hand."""

import numpy as np
import pytest

from benchmarks import spot_checks
from benchmarks.spot_checks import CHECKS, ITERATIONS, MOST, SECTION, Course, figures, first_alarm, judged, wilson_alarm
from ppo.people.evidence import evidence


def course(margins, *, sound=False, rise=1.0):
    """A run whose policy has these gold margins at its checks, each for 24 pairs."""
    scores = np.linspace(0.0, rise, ITERATIONS).tolist()
    iterations = list(range(SECTION.every, ITERATIONS, SECTION.every))
    return Course("made", 0, sound, scores, iterations, np.repeat(np.array(margins)[:, None], 24, axis=1))


def test_the_shipped_kinds_of_runs_are_known():
    assert {name for name, _ in spot_checks.RUNS} <= {spec.name for spec in spot_checks.SPECS}
    assert len(course([0.0] * CHECKS).iterations) == CHECKS


def test_annotators_mostly_agree_with_large_margins():
    generator = np.random.default_rng(0)
    assert judged(np.full(400, 0.8), generator).mean() == pytest.approx(0.9, abs=0.06)
    assert judged(np.full(400, -0.8), generator).mean() == pytest.approx(0.1, abs=0.06)
    assert set(judged(np.zeros(400), generator)) == {0.0, 0.5, 1.0}


def test_the_first_alarm_is_that_of_the_run():
    checks = [1] * 40
    outcomes = np.zeros(40)
    alarm = first_alarm(course([-1.0] * CHECKS), checks, outcomes)
    assert alarm is not None
    assert evidence(checks[:alarm], [0.0] * alarm, CHECKS).value >= 1 / SECTION.alpha
    assert evidence(checks[: alarm - 1], [0.0] * (alarm - 1), CHECKS).value < 1 / SECTION.alpha
    assert first_alarm(course([-1.0] * CHECKS, rise=-1.0), checks, outcomes) is None, "the reward fell as well"
    assert wilson_alarm(outcomes) == 10


def test_figures_tell_sound_from_hacked():
    hacked = [0.2, 0.0, *[-0.8] * (CHECKS - 2)]
    found = figures([course([0.3] * CHECKS, sound=True), course(hacked)], 20)
    assert (found["sound"], found["hacked"], found["paused_sound"]) == (1, 1, 0.0)
    assert found["paused_with_coins"] <= found["wilson_at_every_look_with_coins"]
    assert 5 < found["judgements_at_power_.9"] < MOST
    assert found["runs"][1]["worse_from_check"] in (2, 3)
