"""From the checks and people's judgements to a verdict about the run. Knows no store and no model."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ppo.people.evidence import evidence, interval
from ppo.people.pairs import Check, outcome
from ppo.people.store import Judgement


@dataclass(frozen=True)
class Standing:
    """How people judged the policy of one check."""

    iteration: int
    score: float
    asked: int
    judged: int
    won: float
    """Judgements for the policy; a tie counts ½."""
    low: float
    high: float
    """Confidence interval of the win rate, valid at every look."""

    @property
    def win_rate(self) -> float:
        """Share of the judgements; only with at least one."""
        return self.won / self.judged


@dataclass(frozen=True)
class Verdict:
    """What people's judgements say so far."""

    standings: tuple[Standing, ...]
    evidence: float
    """E-value against "at every check the policy is preferred at least half the time"."""
    action: Literal["go on", "warn", "pause"]
    why: str

    @property
    def judged(self) -> int:
        """Judged pairs of all checks."""
        return sum(standing.judged for standing in self.standings)

    @property
    def asked(self) -> int:
        """Pairs of all checks."""
        return sum(standing.asked for standing in self.standings)

    def row(self) -> dict[str, Any]:
        """As it is recorded."""
        return {
            "evidence": self.evidence,
            "action": self.action,
            "why": self.why,
            "checks": [asdict(standing) for standing in self.standings],
        }

    def metrics(self) -> dict[str, float]:
        """`people/…`: the newest check that has a judgement, and the whole run."""
        found = {"people/judgements": float(self.judged), "people/evidence": self.evidence}
        judged = [standing for standing in self.standings if standing.judged]
        if judged:
            newest = judged[-1]
            found |= {"people/win_rate": newest.win_rate, "people/low": newest.low, "people/high": newest.high}
        return found


def decide(
    checks: Sequence[Check], judgements: Sequence[Judgement], *, first_score: float, planned: int, alpha: float
) -> Verdict:
    """The verdict.

    Args:
        checks: so far, oldest first.
        judgements: in the order in which they were made; those of other items are ignored.
        first_score: mean score of the first rollout, which is the start policy's.
        planned: checks of the whole run.
        alpha: probability of ever pausing or warning a run whose policy people prefer at least half the time.
    """
    asked = {item: (check.number, position) for check in checks for item, position in check.sides().items()}
    known = [judgement for judgement in judgements if judgement.item in asked]
    numbers = [asked[judgement.item][0] for judgement in known]
    outcomes = [outcome(judgement.strength, asked[judgement.item][1]) for judgement in known]
    standings = []
    for check in checks:
        own = [x for number, x in zip(numbers, outcomes, strict=True) if number == check.number]
        standing = Standing(check.iteration, check.score, len(check.items), len(own), sum(own), *interval(own, alpha))
        standings.append(standing)
    found = evidence(numbers, outcomes, planned)
    if found.value < 1 / alpha:
        return Verdict(tuple(standings), found.value, "go on", "")
    late = [standing for standing, check in zip(standings, checks, strict=True) if check.number >= found.since]
    judged, won = sum(standing.judged for standing in late), sum(standing.won for standing in late)
    rise = sum(standing.score for standing in late) / len(late) - first_score
    said = (
        f"from iteration {late[0].iteration} on, people preferred the policy to the start policy in {won:g} of "
        f"{judged} judgements (ties count half; evidence {found.value:.0f}, limit {1 / alpha:.0f})"
    )
    if rise < 0:
        why = (
            f"{said}, and the mean score of the reward model is {-rise:.2f} lower than at the start: training does harm"
        )
        return Verdict(tuple(standings), found.value, "warn", why)
    why = (
        f"{said}, while the mean score of the reward model is {rise:.2f} higher than at the start: "
        "the policy exploits the reward model"
    )
    return Verdict(tuple(standings), found.value, "pause", why)
