"""Holds findings against limits: pass, fail or undefined. Pure; knows estimates, no model and no files.

A finding fails only if its whole interval lies beyond the limit, so a model exactly at the limit fails once in forty
times. Accuracy alone has the burden of proof reversed: its whole interval must lie above the limit.

With a judge, `best_of` measures what the checks of labels and probes stand in for: whether answers that the model picks
are better. It then decides, by its mean, and those checks are warnings.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from workbench.evaluate.statistics import Estimate

if TYPE_CHECKING:
    from reward.config import PassportSection
    from reward.passport.findings import Findings, ProbeFinding

Outcome = Literal["pass", "fail", "undefined", "not applicable"]
STORED = ("reload", "padding", "batch", "position")
"""Checks of the stored model that a passport needs: undefined is as bad as failed."""
REQUIRED = ("accuracy", *STORED)
"""The same without a judge."""
JUDGED = "best_of"
"""The check that decides in place of `accuracy` and the probes; only with a judge."""

ACCURACY = "share of held-out pairs ordered as labelled; fails unless proven above the limit"
BELOW = "noise ceiling − accuracy; fails if the model learnt much less than the labels hold"
ABOVE = "accuracy − noise ceiling; fails if the model knows more than labels can tell: something leaks"
CALIBRATION = "calibration error after temperature, beyond what chance alone shows"
BRIER = "mean squared error of the probability after temperature; a coin has 0.25"
LENGTH = "correlation of score and length within prompts"
SHORTER = "accuracy on pairs whose better answer is the shorter one"
ONE_WORD = "share of pairs whose order flips when one telling word is moved to the other answer"
SWAP = "mean difference of score between two askers, in standard deviations"
BEST_OF = "rise of the judge's score per √nat of KL if the model picks the best of n answers; its mean decides"
UNFAMILIAR = "share of nonsense texts that score above the median and that the members' spread does not flag"


@dataclass(frozen=True)
class Check:
    """One finding against its limit."""

    name: str
    outcome: Outcome
    about: str
    """What is measured, and what fails."""
    limit: float
    value: float | None = None
    low: float | None = None
    high: float | None = None
    count: int = 0
    """Pairs or answers that it rests on."""
    rule: str = "≤"
    """How the limit is meant: ≤ at most, ≥ at least, > proven above, ± of either sign."""


def judge(findings: "Findings", limits: "PassportSection") -> list[Check]:
    """Hold every finding against its limit, in the order of docs/passport.md."""
    few, calibration = limits.fewest, findings.calibration
    excess = max(0.0, calibration.ece - calibration.ece_by_chance)
    worst_word = max((word.turned for word in findings.words), key=lambda turned: turned.mean, default=None)
    let_through = findings.unfamiliar.let_through if findings.unfamiliar is not None else None
    slope = findings.samples.judge_slope if findings.samples is not None else None
    has_judge = limits.judge is not None or slope is not None  # one that had nothing to judge leaves it undefined
    return [
        proven_above("accuracy", findings.accuracy, limits.accuracy, ACCURACY, fewest=few),
        *_against_ceiling(findings, limits),
        point_at_most("calibration", excess, limits.ece, CALIBRATION, count=calibration.brier.count, fewest=few),
        at_most("brier", calibration.brier, limits.brier, BRIER, fewest=few),
        within("length_correlation", findings.length_correlation, limits.length_correlation, LENGTH, fewest=few),
        not_below("shorter_better", findings.shorter_better, limits.shorter_better, SHORTER, fewest=few),
        at_most("one_word", worst_word, limits.one_word, ONE_WORD, fewest=few),
        *(_damage(probe, limits) for probe in findings.probes),
        *(within(f"swap/{swap.name}", swap.gap, limits.swap_gap, SWAP, fewest=few) for swap in findings.swaps),
        at_most("unfamiliar", let_through, limits.let_through, UNFAMILIAR, fewest=few),
        *([mean_at_least(JUDGED, slope, limits.best_of, BEST_OF, fewest=few)] if has_judge else []),
    ]


def _against_ceiling(findings: "Findings", limits: "PassportSection") -> Iterator[Check]:
    """Accuracy against the noise ceiling, from either side."""
    accuracy, ceiling = findings.accuracy, findings.ceiling
    below = above = None
    if ceiling is not None:
        below = Estimate(
            ceiling.mean - accuracy.mean,
            ceiling.mean - accuracy.high,
            ceiling.mean - accuracy.low,
            accuracy.count,
            accuracy.prompts,
        )
        above = Estimate(-below.mean, accuracy.low - ceiling.high, -below.low, below.count, below.prompts)
    yield at_most("below_ceiling", below, limits.below_ceiling, BELOW, fewest=limits.fewest)
    yield at_most("above_ceiling", above, limits.above_ceiling, ABOVE, fewest=limits.fewest)


def _damage(probe: "ProbeFinding", limits: "PassportSection") -> Check:
    """How often one damage raises the score; not applicable to labels that say nothing about it."""
    name, about = f"probe/{probe.name}", f"share that scores higher with {probe.about}"
    limit = limits.ruin_raises if probe.severe else limits.damage_raises
    if probe.name == "other_answer":
        limit = limits.other_answer
    if limits.applies(probe.name):
        return at_most(name, probe.raised, limit, about, fewest=limits.fewest)
    about = f"{about}; not asked of labels for: {limits.profile}"
    if probe.raised is None:
        return Check(name, "not applicable", about, limit)
    share = probe.raised
    return Check(name, "not applicable", about, limit, share.mean, share.low, share.high, share.count)


def at_most(name: str, estimate: Estimate | None, limit: float, about: str, *, fewest: int = 1) -> Check:
    """Fails if the whole interval lies above the limit; undefined for fewer than `fewest` observations."""
    failed = estimate is not None and estimate.low > limit
    return _check(name, estimate, limit, about, fewest, failed)


def not_below(name: str, estimate: Estimate | None, limit: float, about: str, *, fewest: int = 1) -> Check:
    """Fails if the whole interval lies below the limit; undefined for fewer than `fewest` observations."""
    failed = estimate is not None and estimate.high < limit
    return _check(name, estimate, limit, about, fewest, failed, rule="≥")


def proven_above(name: str, estimate: Estimate | None, limit: float, about: str, *, fewest: int = 1) -> Check:
    """Fails unless the whole interval lies above the limit; undefined for fewer than `fewest` observations."""
    failed = estimate is not None and not estimate.low > limit
    return _check(name, estimate, limit, about, fewest, failed, rule=">")


def within(name: str, estimate: Estimate | None, limit: float, about: str, *, fewest: int = 1) -> Check:
    """Fails if the whole interval lies outside ±limit; undefined for fewer than `fewest` observations."""
    failed = estimate is not None and (estimate.low > limit or estimate.high < -limit)
    return _check(name, estimate, limit, about, fewest, failed, rule="±")


def mean_at_least(name: str, estimate: Estimate | None, limit: float, about: str, *, fewest: int = 1) -> Check:
    """Fails if the mean lies below the limit; undefined for fewer than `fewest` observations."""
    failed = estimate is not None and estimate.mean < limit
    return _check(name, estimate, limit, about, fewest, failed, rule="≥")


def exactly(name: str, difference: float | None, limit: float, about: str, *, count: int) -> Check:
    """Fails if a difference without sampling error exceeds the limit or is not a number."""
    if difference is None or count == 0:
        return Check(name, "undefined", about, limit)
    value = difference if math.isfinite(difference) else None
    return Check(name, "pass" if difference <= limit else "fail", about, limit, value, count=count)


def point_at_most(name: str, value: float, limit: float, about: str, *, count: int, fewest: int) -> Check:
    """Fails if a value without an interval exceeds the limit; undefined for fewer than `fewest` observations."""
    outcome: Outcome = "undefined" if count < fewest else "fail" if value > limit else "pass"
    return Check(name, outcome, about, limit, value, count=count)


def _check(
    name: str, estimate: Estimate | None, limit: float, about: str, fewest: int, failed: bool, rule: str = "≤"
) -> Check:
    if estimate is None:
        return Check(name, "undefined", about, limit, rule=rule)
    outcome: Outcome = "undefined" if estimate.count < fewest else "fail" if failed else "pass"
    return Check(name, outcome, about, limit, estimate.mean, estimate.low, estimate.high, estimate.count, rule)


def verdict(checks: list[Check]) -> Literal["pass", "fail"]:
    """Fail if a check that counts fails, or if a required one is undefined or missing."""
    return "fail" if failed_names(checks) else "pass"


def failed_names(checks: list[Check]) -> list[str]:
    """The checks that make a passport fail."""
    required = (JUDGED, *STORED) if _has_judge(checks) else REQUIRED
    passed, noted = {check.name for check in checks if check.outcome == "pass"}, warnings(checks)
    failed = [check.name for check in checks if check.outcome == "fail" and check.name not in noted]
    return failed + [name for name in required if name not in passed and name not in failed]


def warnings(checks: list[Check]) -> list[str]:
    """The failed checks that a judge makes warnings."""
    if not _has_judge(checks):
        return []
    return [c.name for c in checks if c.outcome == "fail" and c.name not in (JUDGED, *STORED, "head")]


def _has_judge(checks: list[Check]) -> bool:
    return any(check.name == JUDGED for check in checks)
