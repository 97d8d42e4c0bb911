"""Findings held against limits: pass, fail or undefined. Pure; knows estimates, no model and no files.

A finding fails only when its whole interval lies beyond the limit, so that chance alone fails one of forty. The burden
of proof is the other way round for accuracy alone: its whole interval must lie above the limit.
"""

import math
from dataclasses import dataclass
from typing import Literal

from workbench.evaluate.statistics import Estimate

Outcome = Literal["pass", "fail", "undefined", "not applicable"]
REQUIRED = ("accuracy", "reload", "padding", "batch", "position")
"""Checks that a passport cannot do without: undefined is as bad as failed."""
Profile = Literal["helpful", "harmless"]
PROFILES: dict[Profile, tuple[str, ...]] = {
    "helpful": (),
    "harmless": ("refusal", "empty", "truncated", "other_answer"),
}
"""What the labels of a file ask for → probes that say nothing about it. Where labels ask for harmlessness alone, saying
less, refusing, or giving another prompt's refusal can rightly be the better answer."""


@dataclass(frozen=True)
class Limits:
    """What each finding is held against; see docs/passport.md."""

    fewest: int = 20
    accuracy: float = 0.5
    below_ceiling: float = 0.1
    above_ceiling: float = 0.05
    ece: float = 0.05
    brier: float = 0.25
    length_correlation: float = 0.7
    shorter_better: float = 0.5
    one_word: float = 0.5
    damage_raises: float = 0.5
    ruin_raises: float = 0.25
    other_answer: float = 0.25
    swap_gap: float = 0.5
    let_through: float = 0.05
    same_score: float = 0.0
    profile: Profile = "helpful"
    not_applicable: tuple[str, ...] = ()

    def applies(self, probe: str) -> bool:
        """Whether a probe is asked of this kind of pairs."""
        return probe not in (*PROFILES[self.profile], *self.not_applicable)


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


def at_most(name: str, found: Estimate | None, limit: float, about: str, *, fewest: int = 1) -> Check:
    """Fails when the whole interval lies above the limit; undefined for fewer than `fewest` observations."""
    return _check(name, found, limit, about, fewest, found is not None and found.low > limit)


def not_below(name: str, found: Estimate | None, limit: float, about: str, *, fewest: int = 1) -> Check:
    """Fails when the whole interval lies below the limit; undefined for fewer than `fewest` observations."""
    return _check(name, found, limit, about, fewest, found is not None and found.high < limit, rule="≥")


def proven_above(name: str, found: Estimate | None, limit: float, about: str, *, fewest: int = 1) -> Check:
    """Fails unless the whole interval lies above the limit; undefined for fewer than `fewest` observations."""
    return _check(name, found, limit, about, fewest, found is not None and not found.low > limit, rule=">")


def within(name: str, found: Estimate | None, limit: float, about: str, *, fewest: int = 1) -> Check:
    """Fails when the whole interval lies outside ±limit; undefined for fewer than `fewest` observations."""
    outside = found is not None and (found.low > limit or found.high < -limit)
    return _check(name, found, limit, about, fewest, outside, rule="±")


def exactly(name: str, difference: float | None, limit: float, about: str, *, count: int) -> Check:
    """Fails when a difference that has no error of sampling exceeds the limit, or is not a number."""
    if difference is None or count == 0:
        return Check(name, "undefined", about, limit)
    value = difference if math.isfinite(difference) else None
    return Check(name, "pass" if difference <= limit else "fail", about, limit, value, count=count)


def point_at_most(name: str, value: float, limit: float, about: str, *, count: int, fewest: int) -> Check:
    """Fails when a value that has no interval exceeds the limit; undefined for fewer than `fewest` observations."""
    outcome: Outcome = "undefined" if count < fewest else "fail" if value > limit else "pass"
    return Check(name, outcome, about, limit, value, count=count)


def labels_needed(labels: int, heldout: int, fewest: int) -> str | None:
    """What to say before a fit whose passport cannot pass for want of held-out pairs; None where there are enough.

    Args:
        labels: pairs to train on and held out.
        heldout: pairs held out.
        fewest: held-out pairs that the passport needs.
    """
    if heldout >= fewest:
        return None
    about = math.ceil(fewest * labels / heldout) if heldout else None
    return (
        f"{labels} labels, {heldout} of them held out: the passport needs at least {fewest} held-out pairs"
        + (f", about {about} labels at this share" if about else "")
        + "; python -m ppo refuses a reward model that has not passed"
    )


def _check(
    name: str, found: Estimate | None, limit: float, about: str, fewest: int, failed: bool, rule: str = "≤"
) -> Check:
    if found is None:
        return Check(name, "undefined", about, limit, rule=rule)
    outcome: Outcome = "undefined" if found.count < fewest else "fail" if failed else "pass"
    return Check(name, outcome, about, limit, found.mean, found.low, found.high, found.count, rule)


def verdict(checks: list[Check]) -> Literal["pass", "fail"]:
    """Fail where a check fails, or one of `REQUIRED` is undefined or missing."""
    return "fail" if failed_names(checks) else "pass"


def failed_names(checks: list[Check]) -> list[str]:
    """The checks that make a passport fail."""
    passed = {check.name for check in checks if check.outcome == "pass"}
    failed = [check.name for check in checks if check.outcome == "fail"]
    return failed + [name for name in REQUIRED if name not in passed and name not in failed]
