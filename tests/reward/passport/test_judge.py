"""Findings against limits: when a check passes, fails or is undefined."""

import pytest
from pydantic import ValidationError

from reward.config import PassportSection
from reward.passport.interventions import PROBE_NAMES
from reward.passport.judge import (
    REQUIRED,
    Check,
    at_most,
    exactly,
    failed_names,
    not_below,
    point_at_most,
    proven_above,
    verdict,
    within,
)
from workbench.evaluate.statistics import Estimate


def estimate(low, high, count=100):
    return Estimate((low + high) / 2, low, high, count, count)


@pytest.mark.parametrize(
    ("rule", "passing", "failing"),
    [
        (at_most, [(0.1, 0.4), (0.4, 0.6), (0.5, 0.7)], [(0.51, 0.7)]),
        (not_below, [(0.6, 0.7), (0.4, 0.6), (0.3, 0.5)], [(0.3, 0.49)]),
        (proven_above, [(0.51, 0.7)], [(0.5, 0.7), (0.4, 0.6), (0.1, 0.2)]),
        (within, [(-0.5, 0.5), (0.4, 0.9), (-0.9, -0.4)], [(0.51, 0.9), (-0.9, -0.51)]),
    ],
)
def test_where_a_rule_draws_its_line(rule, passing, failing):
    outcomes = {span: rule("x", estimate(*span), 0.5, "").outcome for span in [*passing, *failing]}
    assert outcomes == dict.fromkeys(passing, "pass") | dict.fromkeys(failing, "fail")


@pytest.mark.parametrize("rule", [at_most, not_below, proven_above, within])
def test_too_little_says_nothing(rule):
    assert rule("x", None, 0.5, "").outcome == "undefined"
    assert rule("x", estimate(0.9, 1, count=19), 0.5, "", fewest=20).outcome == "undefined"
    check = rule("x", estimate(0.6, 1, count=20), 0.5, "about", fewest=20)
    assert check.outcome != "undefined"
    assert (check.value, check.low, check.high, check.count, check.limit) == (0.8, 0.6, 1, 20, 0.5)


def test_differences_without_sampling():
    assert exactly("x", 0.001, 0.001, "", count=3).outcome == "pass"
    assert exactly("x", 0.0011, 0.001, "", count=3).outcome == "fail"
    broken = exactly("x", float("nan"), 0.001, "", count=3)
    assert (broken.outcome, broken.value) == ("fail", None)
    assert exactly("x", None, 0.001, "", count=0).outcome == "undefined"


def test_the_verdict():
    fine = [Check(name, "pass", "", 0.0) for name in REQUIRED]
    assert verdict(fine) == "pass"
    assert verdict([*fine, Check("brier", "undefined", "", 0.0)]) == "pass"
    assert verdict([*fine, Check("brier", "fail", "", 0.0)]) == "fail"
    assert failed_names([*fine[1:], Check(REQUIRED[0], "undefined", "", 0.0)]) == [REQUIRED[0]]
    assert failed_names([Check("a", "fail", "", 0.0), *fine[1:]]) == ["a", REQUIRED[0]]
    assert failed_names([Check(REQUIRED[0], "fail", "", 0.0), *fine[1:]]) == [REQUIRED[0]]


def test_a_value_without_an_interval_shows_none():
    check = point_at_most("calibration", 0.06, 0.05, "", count=40, fewest=20)
    assert (check.outcome, check.value, check.low, check.high) == ("fail", 0.06, None, None)
    assert point_at_most("calibration", 0.05, 0.05, "", count=40, fewest=20).outcome == "pass"
    assert point_at_most("calibration", 0.5, 0.05, "", count=19, fewest=20).outcome == "undefined"


def test_a_profile_sets_aside_the_probes_after_which_less_is_said():
    harmless = PassportSection(profile="harmless", not_applicable=("capitals",))
    aside = [name for name in PROBE_NAMES if not harmless.applies(name)]
    assert sorted(aside) == ["capitals", "empty", "other_answer", "refusal", "truncated"]
    assert all(PassportSection().applies(name) for name in PROBE_NAMES)
    with pytest.raises(ValidationError, match="'refusals' is not a probe; probes: thanks, "):
        PassportSection(not_applicable=("refusals",))
