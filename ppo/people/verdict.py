"""From the checks and people's judgements to a verdict about the run. Knows no store and no model."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ppo.people.evidence import AT_RANDOM, SUREST, evidence, interval
from ppo.people.pairs import Check, outcome
from ppo.people.store import Judgement


@dataclass(frozen=True)
class Share:
    """How often people preferred the policy's answer in pairs of one kind."""

    judged: int
    won: float
    """A tie counts ½."""
    low: float
    high: float
    """Confidence interval of the win rate, valid at every look."""

    @property
    def rate(self) -> float:
        """Only with at least one judgement."""
        return self.won / self.judged


@dataclass(frozen=True)
class Standing:
    """How people judged the policy of one check."""

    iteration: int
    score: float
    asked: int
    """Pairs of both kinds."""
    random: Share
    surest: Share


@dataclass(frozen=True)
class Verdict:
    """What people's judgements say so far."""

    standings: tuple[Standing, ...]
    evidence: float
    """E-value against "at every check people prefer the policy as often as they should" (`evidence.py`)."""
    action: Literal["go on", "warn", "pause"]
    why: str

    @property
    def judged(self) -> int:
        """Judged pairs of all checks."""
        return sum(standing.random.judged + standing.surest.judged for standing in self.standings)

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
        """`people/…`: the newest check that has a judgement of a kind, and the whole run."""
        found = {"people/judgements": float(self.judged), "people/evidence": self.evidence}
        if random := [standing.random for standing in self.standings if standing.random.judged]:
            newest = random[-1]
            found |= {"people/win_rate": newest.rate, "people/low": newest.low, "people/high": newest.high}
        if surest := [standing.surest for standing in self.standings if standing.surest.judged]:
            found |= {"people/agreement": surest[-1].rate}
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
        alpha: probability of ever pausing or warning a run whose policy people prefer as often as they should.
    """
    asked = {item: (check.number, *how) for check in checks for item, how in check.asked().items()}
    known = [(*asked[judgement.item], judgement.strength) for judgement in judgements if judgement.item in asked]
    judged = [(number, sure, outcome(strength, position)) for number, position, sure, strength in known]
    standings = []
    for check in checks:
        kinds = ([x for n, sure, x in judged if n == check.number and sure == kind] for kind in (False, True))
        random, surest = (Share(len(own), sum(own), *interval(own, alpha)) for own in kinds)
        standings.append(Standing(check.iteration, check.score, len(check.items), random, surest))
    found = evidence(
        [number for number, _, _ in judged],
        [x for _, _, x in judged],
        [SUREST if sure else AT_RANDOM for _, sure, _ in judged],
        planned,
    )
    if found.value < 1 / alpha:
        return Verdict(tuple(standings), found.value, "go on", "")
    late = [standing for standing, check in zip(standings, checks, strict=True) if check.number >= found.since]
    rise = sum(standing.score for standing in late) / len(late) - first_score
    of_random, of_surest = (
        _counted(shares) for shares in zip(*((one.random, one.surest) for one in late), strict=True)
    )
    said = (
        f"from iteration {late[0].iteration} on, people preferred the policy to the start policy in {of_random} random "
        f"pairs (expected: half) and in {of_surest} pairs of which the reward model was surest (two thirds); ties "
        f"count half, evidence {found.value:.0f}, limit {1 / alpha:.0f}"
    )
    if rise < 0:
        why = (
            f"{said}, and the mean score of the reward model is {-rise:.2f} lower than at the start: training does harm"
        )
        return Verdict(tuple(standings), found.value, "warn", why)
    why = (
        f"{said}, while the mean score of the reward model is {rise:.2f} higher than at the start: "
        "the policy exploits the reward model, or the reward model was wrong from the start"
    )
    return Verdict(tuple(standings), found.value, "pause", why)


def _counted(shares: Sequence[Share]) -> str:
    return f"{sum(share.won for share in shares):g} of {sum(share.judged for share in shares)}"
