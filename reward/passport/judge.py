"""The findings held against the limits, and what each check says. Pure."""

from reward.passport import checks as held
from reward.passport.checks import Check, Limits
from reward.passport.content import Findings
from reward.passport.probes import OTHER_ANSWER
from workbench.evaluate.statistics import Estimate

ACCURACY = "share of held-out pairs ordered as labelled; fails unless proven above the limit"
BELOW = "noise ceiling − accuracy; fails when the model learnt much less than the labels hold"
ABOVE = "accuracy − noise ceiling; fails when the model knows more than labels can tell: something leaks"
CALIBRATION = "calibration error after temperature, beyond what chance alone shows"
BRIER = "mean squared error of the probability after temperature; a coin has 0.25"
LENGTH = "correlation of score and length within prompts"
SHORTER = "accuracy where the shorter answer is the better one"
ONE_WORD = "share of pairs whose order turns when one telling word is moved to the other answer"
SWAP = "mean difference of score between two askers, in deviations"
UNFAMILIAR = "share of texts without sense that score above the median and that the members' spread does not flag"


def judge(found: Findings, limits: Limits) -> list[Check]:
    """The findings held against the limits."""
    few = limits.fewest
    result: list[Check] = []
    add = result.append
    add(held.proven_above("accuracy", found.accuracy, limits.accuracy, ACCURACY, fewest=few))
    if found.ceiling is None:
        add(Check("below_ceiling", "undefined", BELOW, limits.below_ceiling))
        add(Check("above_ceiling", "undefined", ABOVE, limits.above_ceiling))
    else:
        under = _minus(found.ceiling.mean, found.accuracy)
        over = Estimate(-under.mean, found.accuracy.low - found.ceiling.high, -under.low, under.count, under.prompts)
        add(held.at_most("below_ceiling", under, limits.below_ceiling, BELOW, fewest=few))
        add(held.at_most("above_ceiling", over, limits.above_ceiling, ABOVE, fewest=few))
    honest = found.calibration
    excess = max(0.0, honest.ece - honest.ece_by_chance)
    add(held.point_at_most("calibration", excess, limits.ece, CALIBRATION, count=honest.brier.count, fewest=few))
    add(held.at_most("brier", honest.brier, limits.brier, BRIER, fewest=few))
    add(held.within("length_correlation", found.length_correlation, limits.length_correlation, LENGTH, fewest=few))
    add(held.not_below("shorter_better", found.shorter_better, limits.shorter_better, SHORTER, fewest=few))
    worst = max(found.words, key=lambda word: word.turned.mean, default=None)
    add(held.at_most("one_word", worst.turned if worst else None, limits.one_word, ONE_WORD, fewest=few))
    for probe in found.probes:
        limit = limits.ruin_raises if probe.severe else limits.damage_raises
        if probe.name == OTHER_ANSWER.name:
            limit = limits.other_answer
        name, about = f"probe/{probe.name}", f"share that scores higher with {probe.about}"
        if limits.applies(probe.name):
            add(held.at_most(name, probe.raised, limit, about, fewest=few))
        else:
            add(not_applicable(name, probe.raised, limit, f"{about}; not asked of labels for: {limits.profile}"))
    for swap in found.swaps:
        add(held.within(f"swap/{swap.name}", swap.gap, limits.swap_gap, SWAP, fewest=few))
    through = found.unfamiliar.let_through if found.unfamiliar is not None else None
    add(held.at_most("unfamiliar", through, limits.let_through, UNFAMILIAR, fewest=few))
    return result


def not_applicable(name: str, found: Estimate | None, limit: float, about: str) -> Check:
    """A check that says nothing about this kind of pairs: shown with its value, held against nothing."""
    if found is None:
        return Check(name, "not applicable", about, limit)
    return Check(name, "not applicable", about, limit, found.mean, found.low, found.high, found.count)


def _minus(value: float, estimate: Estimate) -> Estimate:
    return Estimate(
        value - estimate.mean, value - estimate.high, value - estimate.low, estimate.count, estimate.prompts
    )
