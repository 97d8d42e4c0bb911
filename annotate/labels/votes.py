"""Judgements as comparisons of two answers, in arrays: the input of agreement, quality and resolution.

Strengths are in the order of the item's responses: negative if the first answer is better. A ranking of K answers
becomes K(K−1)/2 comparisons whose strength is the difference of the ranks (at most 3). Knows rows, not the database.

Shapes: M = votes, N = comparisons, A = annotators.
"""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotate.statistics.quality import Integers, classes_of
from annotate.store.statements import Adjudication, CurrentJudgement, StoredItem, StoredResponse


@dataclass(frozen=True)
class Comparison:
    """Two answers of an item."""

    item: StoredItem
    first: int
    """Position of the first answer."""
    second: int
    """Position of the second answer."""
    ranked: bool = False
    """Whether it is one of several comparisons of an item whose answers are ranked."""

    @property
    def id(self) -> str:
        """The item's id, followed by the two positions if the item has more than two answers."""
        return f"{self.item.item_id}:{self.first}-{self.second}" if self.ranked else self.item.item_id


@dataclass(frozen=True)
class Votes:
    """Every current judgement that compares answers; each array has M entries."""

    comparisons: tuple[Comparison, ...]
    """(N,) all comparisons of the items, including those without a vote."""
    names: tuple[str, ...]
    """(A,) annotators, sorted."""
    comparison: Integers
    """Index into `comparisons`."""
    annotator: Integers
    """Index into `names`."""
    strength: Integers
    """−3 (first much better) … 3; 0 for a tie or both bad."""
    both_bad: NDArray[np.bool_]
    flipped: NDArray[np.bool_]
    """The second answer was shown left of (or above) the first."""
    seconds: NDArray[np.float64]
    """NaN if unknown, and on all but the first comparison of a ranking."""

    @property
    def labels(self) -> Integers:
        """(M,) classes: 0 first, 1 tie, 2 second."""
        return classes_of(self.strength)

    def __len__(self) -> int:
        return len(self.comparison)


def collect(
    items: Sequence[StoredItem],
    responses: Mapping[int, Sequence[StoredResponse]],
    judgements: Sequence[CurrentJudgement],
) -> Votes:
    """The votes on these items; judgements of other items, and skipped ones, are ignored."""
    comparisons: list[Comparison] = []
    indices: dict[int, dict[tuple[int, int], int]] = {}
    for item in items:
        pairs = list(itertools.combinations(range(len(responses[item.id])), 2))
        indices[item.id] = {pair: len(comparisons) + number for number, pair in enumerate(pairs)}
        comparisons += [Comparison(item, i, j, ranked=len(pairs) > 1) for i, j in pairs]
    kept = [j for j in judgements if j.item in indices and j.choice not in ("skipped", "withdrawn")]
    names = tuple(sorted({judgement.annotator for judgement in kept}))
    codes = {name: code for code, name in enumerate(names)}
    rows = [
        (indices[judgement.item][pair], codes[judgement.annotator], *vote)
        for judgement in kept
        for pair, vote in _votes(judgement, indices[judgement.item])
    ]
    columns = list(zip(*rows, strict=True)) if rows else [()] * 6
    kinds = (np.int64, np.int64, np.int64, bool, bool, float)
    arrays = [np.array(column, dtype=kind) for column, kind in zip(columns, kinds, strict=True)]
    return Votes(tuple(comparisons), names, *arrays)


Vote = tuple[int, bool, bool, float]
"""Strength, both bad, flipped, seconds."""


def _votes(judgement: CurrentJudgement, pairs: Mapping[tuple[int, int], int]) -> Iterator[tuple[tuple[int, int], Vote]]:
    seconds = float("nan") if judgement.seconds is None else judgement.seconds
    shown = json.loads(judgement.display_order) if judgement.display_order else None
    bad = judgement.choice == "both_bad"
    for pair, strength in strengths(judgement.choice, judgement.strength, judgement.ranking, list(pairs)):
        flipped = judgement.swapped if shown is None else shown.index(pair[1]) < shown.index(pair[0])
        yield pair, (strength, bad, flipped, seconds)
        seconds = float("nan")


def strengths(
    choice: str, strength: int | None, ranking: str | None, pairs: Sequence[tuple[int, int]]
) -> list[tuple[tuple[int, int], int]]:
    """The strength that a judgement or adjudication gives to each pair of answers: (positions, strength)."""
    if choice == "ranked" and ranking is not None:
        ranks = json.loads(ranking)
        return [((i, j), max(-3, min(3, ranks[i] - ranks[j]))) for i, j in pairs]
    return [(pair, strength or 0) for pair in pairs]


def decided(votes: Votes, adjudications: Mapping[int, Adjudication]) -> dict[int, tuple[Adjudication, int]]:
    """Comparisons (by index) that a reviewer has ruled on: the adjudication and its strength.

    A withdrawn ruling leaves the comparison to its annotators.
    """
    found: dict[int, tuple[Adjudication, int]] = {}
    for index, comparison in enumerate(votes.comparisons):
        ruling = adjudications.get(comparison.item.id)
        if ruling is not None and ruling.choice != "withdrawn":
            pair = (comparison.first, comparison.second)
            found[index] = (ruling, strengths(ruling.choice, ruling.strength, ruling.ranking, [pair])[0][1])
    return found
