"""Ratings of the arena's runs, and what the votes are too few to say."""

from collections.abc import Sequence
from dataclasses import dataclass

from annotate.campaign.battles import ARENA
from annotate.campaign.report import Report, campaign_report
from annotate.statistics.ratings import ELO, Rating
from annotate.store.database import Store

FEWEST_VOTES = 20
"""Votes of a run before it has a rating. In simulations of four runs 0.6 log-odds apart, 95 % intervals hold the truth
in 85 % of the cases at 5 votes per run, 92 % at 20, 94 % at 40; at 20, no run was ranked above a better one."""


@dataclass(frozen=True)
class Standing:
    """One run on the leaderboard."""

    run: str
    votes: int
    rating: Rating | None = None
    """In Elo points, mean 0; None with too few votes."""
    ranks: tuple[int, int] | None = None
    """Best and worst rank that the intervals allow; None with too few votes."""


@dataclass(frozen=True)
class Leaderboard:
    """All runs, best first."""

    standings: tuple[Standing, ...]
    votes: int
    reservation: str
    """A key of the page's texts: what the votes do not say. Empty if they order at least two runs."""
    report: Report

    @property
    def reach(self) -> float:
        """The largest distance of an interval's end from 0, in Elo points: the half-width of the plot."""
        ratings = [standing.rating for standing in self.standings if standing.rating is not None]
        return max((max(abs(rating.low), abs(rating.high)) for rating in ratings), default=1.0)


def leaderboard(store: Store, runs: Sequence[str]) -> Leaderboard:
    """The standings of every run with a vote, and of `runs`, which the arena has open now."""
    report = campaign_report(store, ARENA)
    votes = dict.fromkeys([*report.runs, *runs], 0)
    for pair in report.pairs:
        votes[pair.own] += pair.judgements
        votes[pair.other] += pair.judgements
    ratings = dict(zip(report.runs, report.ratings, strict=True)) if report.ratings else {}
    enough = {run: rating for run, rating in ratings.items() if votes[run] >= FEWEST_VOTES}
    standings = [
        Standing(run, count, _in_elo(enough[run]), _ranks(run, enough)) if run in enough else Standing(run, count)
        for run, count in votes.items()
    ]
    standings.sort(key=lambda standing: (-standing.rating.value if standing.rating else float("inf"), -standing.votes))
    return Leaderboard(tuple(standings), report.given, _reservation(standings, enough, report), report)


def _ranks(run: str, ratings: dict[str, Rating]) -> tuple[int, int]:
    """A rank is lost only to a run whose whole interval is above one's own."""
    own = ratings[run]
    above = sum(other.low > own.high for other in ratings.values())
    below = sum(other.high < own.low for other in ratings.values())
    return 1 + above, len(ratings) - below


def _reservation(standings: Sequence[Standing], enough: dict[str, Rating], report: Report) -> str:
    if report.given == 0:
        return "arena.none"
    if not report.ratings:
        return "arena.unconnected"
    if len(enough) < len(standings):
        return "arena.few"
    apart = any(standing.ranks != (1, len(enough)) for standing in standings)
    return "" if apart else "arena.unordered"


def _in_elo(rating: Rating) -> Rating:
    return Rating(rating.value * ELO, rating.low * ELO, rating.high * ELO)
