"""One row per annotator: how reliable their judgements are, and how they work. Knows votes, not the store.

A share without cases is undefined (None). Intervals of shares are Wilson intervals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotate.labels.resolve import fit
from annotate.labels.votes import Votes
from annotate.statistics.quality import Integers, agreement_with_others, share_by, speed_outliers
from annotate.store.statements import Annotator, CurrentJudgement, StoredResponse
from workbench.evaluate.statistics import wilson_interval

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Share:
    """Hits among cases, with a Wilson interval."""

    hits: int
    cases: int

    @property
    def value(self) -> float | None:
        """None without cases."""
        return self.hits / self.cases if self.cases else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 %."""
        return wilson_interval(self.hits, self.cases) if self.cases else None

    def differs(self, value: float, by: float) -> bool:
        """Whether the share is further than `by` from `value`, and its interval does not contain `value`."""
        if self.value is None or self.interval is None:
            return False
        return abs(self.value - value) > by and not self.interval[0] <= value <= self.interval[1]


@dataclass(frozen=True)
class Row:
    """Statistics of one annotator."""

    name: str
    state: str
    simulated: bool
    judged: int
    skipped: int
    gold: Share
    """Gold items for which the annotator chose the right side."""
    repeats: Share
    """Repeats for which the annotator chose the same side both times."""
    others: Share
    """Judgements of the same comparisons by others that chose the same side."""
    reliability: float | None
    """Dawid-Skene: probability of the right answer. None if nobody else judged any of the items."""
    left: Share
    """Judgements for the left side, among those for either side."""
    longer: Share
    """Judgements for the longer answer, among those for either side on answers of different lengths."""
    median_seconds: float | None
    quick: Share
    """Timed judgements that are unusually quick (`annotate.statistics.quality.speed_outliers`)."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Names of the columns that a lead should look at."""
        found = {
            "gold": self.gold.cases >= 5 and (self.gold.value or 0) < 0.7,
            "repeats": self.repeats.cases >= 5 and (self.repeats.value or 0) < 0.7,
            "left": self.left.cases >= 20 and self.left.differs(0.5, by=0.05),
            "quick": self.quick.cases >= 20 and (self.quick.value or 0) > 0.1,
            "reliability": self.others.cases >= 20 and self.reliability is not None and self.reliability < 0.5,
        }
        return tuple(name for name, wrong in found.items() if wrong)


def annotator_rows(
    votes: Votes,
    responses: Mapping[int, Sequence[StoredResponse]],
    judgements: Sequence[CurrentJudgement],
    accounts: Sequence[Annotator],
) -> list[Row]:
    """A row for each account that judged or skipped an item.

    Args:
        votes: on items of every kind.
        judgements: all judgements, including skipped ones.
    """
    count = len(votes.names)
    kinds = np.array([comparison.item.kind for comparison in votes.comparisons], dtype=object)
    ordinary = (kinds == "ordinary")[votes.comparison] if len(votes) else np.zeros(0, bool)
    sided, length = votes.strength != 0, _longer(votes, responses)
    seconds = np.where(ordinary, votes.seconds, np.nan)
    speed = speed_outliers(seconds)
    timed = ~np.isnan(seconds)
    others = _ordinary_agreement(votes, ordinary, count)
    shares = {
        "gold": share_by(votes.annotator, *_gold(votes), count),
        "repeats": share_by(votes.annotator, *_repeated(votes), count),
        "others": others,
        "left": share_by(votes.annotator, (votes.strength < 0) != votes.flipped, sided & ordinary, count),
        "longer": share_by(
            votes.annotator, (votes.strength > 0) == (length > 0), sided & ordinary & (length != 0), count
        ),
        "quick": share_by(votes.annotator, speed.outliers, timed, count),
    }
    reliability = fit(votes).reliability if len(votes) else np.zeros(0)
    taught = others[1] + shares["gold"][1]
    medians = _medians(votes.annotator, seconds, count)
    codes = {name: code for code, name in enumerate(votes.names)}
    skipped, judged = _by_choice(judgements)
    return [
        Row(
            account.name,
            account.state,
            account.simulated,
            judged.get(account.name, 0),
            skipped.get(account.name, 0),
            reliability=float(reliability[code]) if code is not None and taught[code] else None,
            median_seconds=None if code is None else medians[code],
            **{name: Share(*(int(column[code]) for column in columns)) if code is not None else Share(0, 0)
               for name, columns in shares.items()},
        )
        for account in accounts
        if account.name in judged or account.name in skipped
        for code in [codes.get(account.name)]
    ]  # fmt: skip


def _by_choice(judgements: Sequence[CurrentJudgement]) -> tuple[dict[str, int], dict[str, int]]:
    """Numbers of items that each annotator skipped and judged."""
    skipped: dict[str, int] = {}
    judged: dict[str, int] = {}
    for judgement in judgements:
        table = skipped if judgement.choice == "skipped" else judged
        table[judgement.annotator] = table.get(judgement.annotator, 0) + 1
    return skipped, judged


def _gold(votes: Votes) -> tuple[Flags, Flags]:
    """(M,) the right side, (M,) on a gold item."""
    known = [
        np.sign(comparison.item.known_strength) if comparison.item.known_strength is not None else 9
        for comparison in votes.comparisons
    ]
    of_vote = np.array(known, dtype=np.int64)[votes.comparison]
    return np.sign(votes.strength) == of_vote, of_vote != 9


def _repeated(votes: Votes) -> tuple[Flags, Flags]:
    """(M,) the same side as before, (M,) on a repeat whose first judgement is current."""
    said: dict[tuple[int, int, int, int], int] = {}
    labels = votes.labels
    keys = [(comparison.item, comparison.first, comparison.second) for comparison in votes.comparisons]
    repeats: list[tuple[int, tuple[int, int, int, int]]] = []
    for vote, (index, who) in enumerate(zip(votes.comparison.tolist(), votes.annotator.tolist(), strict=True)):
        item, first, second = keys[index]
        said[item.id, first, second, who] = int(labels[vote])
        if item.repeat_of is not None:
            repeats.append((vote, (item.repeat_of, first, second, who)))
    same, counted = np.zeros(len(votes), bool), np.zeros(len(votes), bool)
    for vote, key in repeats:
        if key in said:
            counted[vote], same[vote] = True, said[key] == labels[vote]
    return same, counted


def _longer(votes: Votes, responses: Mapping[int, Sequence[StoredResponse]]) -> Integers:
    """(M,) length of the second answer minus that of the first, in characters."""
    differences = [
        len(responses[comparison.item.id][comparison.second].text)
        - len(responses[comparison.item.id][comparison.first].text)
        for comparison in votes.comparisons
    ]
    return np.array(differences, dtype=np.int64)[votes.comparison]


def _ordinary_agreement(votes: Votes, ordinary: Flags, count: int) -> tuple[Integers, Integers]:
    if not ordinary.any():
        return np.zeros(count, np.int64), np.zeros(count, np.int64)
    return agreement_with_others(votes.comparison[ordinary], votes.annotator[ordinary], votes.labels[ordinary], count)


def _medians(people: Integers, seconds: NDArray[np.float64], count: int) -> list[float | None]:
    timed = ~np.isnan(seconds)
    order = np.argsort(people[timed], kind="stable")
    parts = np.split(seconds[timed][order], np.cumsum(np.bincount(people[timed], minlength=count))[:-1])
    return [float(np.median(part)) if len(part) else None for part in parts][:count]
