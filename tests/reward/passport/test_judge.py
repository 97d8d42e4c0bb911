"""Findings against limits: when a check passes, fails or is undefined."""

import pytest
from pydantic import ValidationError

from reward.config import PassportSection
from reward.passport.findings import (
    Calibration,
    Findings,
    ProbeFinding,
    SwapFinding,
    UnfamiliarFinding,
    WordFinding,
)
from reward.passport.interventions import PROBE_NAMES
from reward.passport.judge import (
    JUDGED,
    REQUIRED,
    STORED,
    Check,
    at_most,
    exactly,
    failed_names,
    judge,
    not_below,
    point_at_most,
    proven_above,
    verdict,
    warnings,
    within,
)
from reward.passport.samples import SampleFinding
from workbench.evaluate.statistics import Estimate


def estimate(low, high, count=100):
    return Estimate((low + high) / 2, low, high, count, count)


def findings(**changes):
    """A sound model's; `changes` replace some of them."""
    sound = {
        "accuracy": estimate(0.7, 0.8, count=90),
        "ceiling": estimate(0.8, 0.9),
        "agreement": estimate(0.7, 0.8),
        "slices": [],
        "calibration": calibration(0.06),
        "margins": [],
        "length_correlation": estimate(-0.1, 0.1),
        "shorter_better": estimate(0.6, 0.8),
        "words": [],
        "probes": [],
        "swaps": [],
        "unfamiliar": None,
        "mistakes": [],
    }
    return Findings(**(sound | changes))


def calibration(ece):
    return Calibration(
        1.0, ece_before=ece, ece=ece, ece_by_chance=0.02, brier=estimate(0.1, 0.2, count=40), reliability=[]
    )


def judged(limits=None, **changes):
    return {check.name: check for check in judge(findings(**changes), limits or PassportSection())}


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


def test_a_judge_decides_and_the_checks_of_labels_and_probes_warn():
    stored = [Check(name, "pass", "", 0.0) for name in STORED]
    unsure = [Check("accuracy", "fail", "", 0.5), Check("probe/pad", "fail", "", 0.5)]
    sees_a_gain, sees_none = Check(JUDGED, "pass", "", 0.0), Check(JUDGED, "fail", "", 0.0)
    assert (failed_names([*stored, *unsure]), warnings([*stored, *unsure])) == (["accuracy", "probe/pad"], [])
    judged = [*stored, *unsure, sees_a_gain]
    assert (verdict(judged), warnings(judged)) == ("pass", ["accuracy", "probe/pad"])
    assert failed_names([*stored, *unsure, sees_none]) == [JUDGED]
    assert failed_names([*stored, Check("accuracy", "pass", "", 0.5), sees_none]) == [JUDGED], "however accurate"
    assert failed_names([*judged, Check("head", "fail", "", 0.0)]) == ["head"]
    assert failed_names(judged[1:]) == [STORED[0]], "what is stored must be checked"


def test_best_of_is_a_check_only_with_a_judge():
    def checks(slope):
        share = estimate(0.5, 0.6)
        samples = SampleFinding(32, 16, teaches=share, own_slope=share, judge_slope=slope, best_of=[])
        found = judge(findings(samples=samples), PassportSection(best_of=0.3))
        return {check.name: check for check in found}

    assert JUDGED not in checks(None)
    assert JUDGED not in {check.name for check in judge(findings(), PassportSection())}
    assert checks(estimate(0.1, 0.52))[JUDGED].outcome == "pass", "the mean decides"
    assert checks(estimate(0.1, 0.48))[JUDGED].outcome == "fail"
    assert checks(estimate(0.2, 0.6, count=19))[JUDGED].outcome == "undefined"


def test_a_judge_that_had_nothing_to_judge_does_not_leave_the_decision_to_the_other_checks():
    checks = judge(findings(samples=None), PassportSection(judge="runs/judge"))
    (found,) = (check for check in checks if check.name == JUDGED)
    assert (found.outcome, found.count) == ("undefined", 0)
    assert JUDGED in failed_names(checks)


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


def test_accuracy_is_held_against_the_ceiling_from_both_sides():
    """Accuracy .75 (.7 to .8), ceiling .85 (.8 to .9)."""
    checks = judged()
    below, above = checks["below_ceiling"], checks["above_ceiling"]
    assert (below.value, below.low, below.high) == pytest.approx((0.1, 0.05, 0.15))
    assert (above.value, above.low, above.high) == pytest.approx((-0.1, -0.2, -0.05))
    assert (below.outcome, above.outcome, below.count, above.count) == ("pass", "pass", 90, 90)
    assert judged(accuracy=estimate(0.55, 0.74))["below_ceiling"].outcome == "fail", "all of it more than .1 below .85"
    assert judged(accuracy=estimate(0.96, 1.0))["above_ceiling"].outcome == "fail", ".06 above the ceiling's upper end"
    unknown = judged(ceiling=None)
    assert (unknown["below_ceiling"].outcome, unknown["above_ceiling"].outcome) == ("undefined", "undefined")
    assert (unknown["below_ceiling"].limit, unknown["above_ceiling"].limit) == (0.1, 0.05)


def test_calibration_is_held_against_what_chance_shows():
    values = {ece: judged(calibration=calibration(ece))["calibration"] for ece in (0.01, 0.06, 0.08)}
    assert [check.value for check in values.values()] == pytest.approx([0, 0.04, 0.06])
    assert [check.outcome for check in values.values()] == ["pass", "pass", "fail"]
    assert values[0.08].count == 40


def test_the_worst_word_is_the_one_that_flips_most_pairs():
    words = [WordFinding("a", 0.9, estimate(0.1, 0.2)), WordFinding("b", -0.8, estimate(0.6, 0.8))]
    check = judged(words=words)["one_word"]
    assert (check.value, check.outcome) == (pytest.approx(0.7), "fail")
    assert judged(words=words[:1])["one_word"].outcome == "pass"
    assert judged()["one_word"].outcome == "undefined"


def test_each_probe_has_the_limit_of_its_kind():
    share = estimate(0.3, 0.4)
    probes = [
        ProbeFinding("pad", "padding", False, share, 0.0),
        ProbeFinding("empty", "no text", True, share, 0.0),
        ProbeFinding("other_answer", "another", False, share, 0.0),
        ProbeFinding("refusal", "a refusal", True, None, None),
    ]
    checks = judged(probes=probes)
    assert (checks["probe/pad"].limit, checks["probe/pad"].outcome) == (0.5, "pass")
    assert (checks["probe/empty"].limit, checks["probe/empty"].outcome) == (0.25, "fail")
    strict = judged(PassportSection(other_answer=0.1, ruin_raises=0.9), probes=probes)
    assert (strict["probe/other_answer"].limit, strict["probe/other_answer"].outcome) == (0.1, "fail")
    assert (strict["probe/empty"].limit, strict["probe/empty"].outcome) == (0.9, "pass")
    assert checks["probe/refusal"].outcome == "undefined"
    aside = judged(PassportSection(profile="harmless"), probes=probes)
    empty, refusal = aside["probe/empty"], aside["probe/refusal"]
    assert (empty.outcome, empty.value, empty.low, empty.high, empty.count) == (
        "not applicable",
        pytest.approx(0.35),
        0.3,
        0.4,
        100,
    )
    assert (refusal.outcome, refusal.value, refusal.limit) == ("not applicable", None, 0.25)
    assert "harmless" in refusal.about


def test_swaps_and_unfamiliar_texts():
    checks = judged(swaps=[SwapFinding("names", estimate(0.6, 0.8), 2.0), SwapFinding("gender", None, None)])
    assert (checks["swap/names"].outcome, checks["swap/gender"].outcome) == ("fail", "undefined")
    assert judged()["unfamiliar"].outcome == "undefined"
    fooled = UnfamiliarFinding(0.1, 0.2, flagged=estimate(0.0, 0.1), let_through=estimate(0.8, 0.9))
    assert judged(unfamiliar=fooled)["unfamiliar"].outcome == "fail"


def test_few_observations_leave_a_check_undefined():
    defined = [name for name, check in judged(PassportSection(fewest=91)).items() if check.outcome != "undefined"]
    assert defined == ["length_correlation", "shorter_better"]
