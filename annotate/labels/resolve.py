"""Several people's judgements of two answers become one label. Knows votes, not the store and not files.

* `majority`: each judgement is one vote for an answer; a tie (or both bad) is half a vote for each. The answer with
  more votes is chosen; `probability` is its share of the votes, `weight` is 1.
* `dawid-skene`: the posterior of `annotate.statistics.quality.dawid_skene` over first better, tie, second better. The
  more probable side is chosen; `probability` is P(chosen) + P(tie)/2, the target of a soft label; `weight` is
  |P(second) − P(first)|, from 0 (nothing is known) to 1 (certain). The outcome is a tie if a tie is most probable.
* `single`: each judgement is a label of its own.

The strength is the mean over the judgements for the chosen side and the ties (as 0); opposing judgements lower only the
probability. `dawid-skene` weights it by the annotators' informedness, so that a random "much better" counts little.

In every mode, a comparison that at least half of its annotators call both bad is resolved as both bad, and a tie has
strength 0 and weight 0. A reviewer's adjudication replaces the annotators' judgements.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from annotate.config import Mode
from annotate.labels.votes import Comparison, Votes, decided
from annotate.statistics.quality import DawidSkene, Floats, dawid_skene
from annotate.store.statements import Adjudication

POOLING = 2.0
"""Pseudo-judgements per class that each annotator gets from the pool of all, so that few judgements prove little."""


@dataclass(frozen=True)
class Label:
    """One resolved comparison."""

    comparison: Comparison
    outcome: Literal["decided", "tie", "both_bad", "left_out"]
    """`left_out`: a reviewer ruled that it must not be learnt."""
    chosen: int
    """0 the first of the comparison, 1 the second; meaningless unless the outcome is `decided`."""
    strength: float
    """0 … 3."""
    probability: float
    """Probability that `chosen` is better; a tie counts ½."""
    weight: float
    """0 … 1."""
    annotators: tuple[str, ...]
    """Annotators whose judgements it is based on; for an adjudication, those whose judgements it replaced."""
    agreement: float | None
    """Share of the votes for `chosen`, ties ½; None for fewer than two judgements."""
    resolution: str
    """The mode, or `adjudicated`."""
    key: str
    """The comparison's id; with `single`, followed by the number of the judgement."""


@dataclass(frozen=True)
class _Tally:
    """The votes on one comparison."""

    comparison: Comparison
    codes: tuple[int, ...]
    """Indices of the annotators in `Votes.names`."""
    names: tuple[str, ...]
    strengths: tuple[int, ...]
    bad: tuple[bool, ...]

    def share_of_second(self) -> float:
        return sum(1.0 if s > 0 else 0.5 if s == 0 else 0.0 for s in self.strengths) / len(self.strengths)

    def strength(self, chosen: int, trust: Floats | None) -> float:
        """Mean strength for the chosen side, ties as 0; weighted by the trust in each annotator."""
        sides = np.array(self.strengths) * (1 if chosen else -1)
        weights = np.ones(len(sides)) if trust is None else np.maximum(trust[list(self.codes)], 0.0)
        weights = np.where(sides >= 0, weights, 0.0)
        if not weights.any():  # nobody on this side can be trusted: use all judgements
            return float(np.abs(sides).mean())
        return min(float(np.average(sides, weights=weights)), float(sides.max()))  # rounding: 3 stays 3

    def both_bad(self) -> bool:
        return 2 * sum(self.bad) >= len(self.bad)

    def agreement(self, chosen: int) -> float | None:
        share = self.share_of_second()
        return None if len(self.strengths) < 2 else share if chosen else 1 - share


def resolve(votes: Votes, adjudications: Mapping[int, Adjudication], *, mode: Mode) -> list[Label]:
    """The label of every comparison that has a vote or an adjudication, in the order of the comparisons."""
    tallies = _tallies(votes)
    fitted = fit(votes) if mode == "dawid-skene" else None
    rulings = decided(votes, adjudications)
    labels: list[Label] = []
    for index, comparison in enumerate(votes.comparisons):
        tally = tallies.get(index)
        if index in rulings:
            labels.append(_adjudicated(comparison, tally, *rulings[index]))
        elif tally is not None and mode == "single":
            labels += _each(tally)
        elif tally is not None:
            labels.append(_together(tally, mode, index, fitted))
    return labels


def fit(votes: Votes) -> DawidSkene:
    """Dawid-Skene on these votes, with the known answers of gold items; both bad counts as a tie."""
    known = [_known_class(comparison) for comparison in votes.comparisons]
    return dawid_skene(
        votes.comparison, votes.annotator, votes.labels, flips=votes.flipped, known=known, pooling=POOLING
    )


def _known_class(comparison: Comparison) -> int:
    strength = comparison.item.known_strength
    return -1 if strength is None or comparison.ranked else int(np.sign(strength)) + 1


def _tallies(votes: Votes) -> dict[int, _Tally]:
    order = np.lexsort((votes.annotator, votes.comparison))
    indices, starts = np.unique(votes.comparison[order], return_index=True)
    found: dict[int, _Tally] = {}
    for index, own in zip(indices.tolist(), np.split(order, starts[1:]), strict=False):
        found[index] = _Tally(
            votes.comparisons[index],
            tuple(votes.annotator[own].tolist()),
            tuple(votes.names[code] for code in votes.annotator[own].tolist()),
            tuple(votes.strength[own].tolist()),
            tuple(votes.both_bad[own].tolist()),
        )
    return found


def _together(tally: _Tally, mode: Mode, index: int, fitted: DawidSkene | None) -> Label:
    if fitted is None:
        share = tally.share_of_second()
        tie, chosen, weight = share == 0.5, int(share > 0.5), 1.0
        probability = max(share, 1 - share)
    else:
        first, equal, second = fitted.posteriors[index].tolist()
        tie, chosen = equal >= max(first, second) or first == second, int(second > first)
        weight, probability = abs(second - first), max(first, second) + equal / 2
    bad = tally.both_bad()
    return Label(
        tally.comparison,
        "both_bad" if bad else "tie" if tie else "decided",
        chosen,
        0.0 if tie else tally.strength(chosen, None if fitted is None else fitted.informedness),
        0.5 if tie else min(probability, 1.0),
        0.0 if tie else min(weight, 1.0),
        tally.names,
        tally.agreement(chosen),
        mode,
        tally.comparison.id,
    )


def _each(tally: _Tally) -> Iterator[Label]:
    for number, (name, strength, bad) in enumerate(zip(tally.names, tally.strengths, tally.bad, strict=True)):
        chosen = int(strength > 0)
        yield Label(
            tally.comparison,
            "both_bad" if bad else "decided" if strength else "tie",
            chosen,
            float(abs(strength)),
            1.0 if strength else 0.5,
            1.0 if strength else 0.0,
            (name,),
            tally.agreement(chosen),
            "single",
            f"{tally.comparison.id}#{number}" if len(tally.names) > 1 else tally.comparison.id,
        )


def _adjudicated(comparison: Comparison, tally: _Tally | None, ruling: Adjudication, strength: int) -> Label:
    chosen = int(strength > 0)
    outcome: Literal["decided", "tie", "both_bad", "left_out"] = "decided" if strength else "tie"
    if ruling.choice not in ("compared", "ranked"):
        outcome = "both_bad" if ruling.choice == "both_bad" else "left_out"
    return Label(
        comparison,
        outcome,
        chosen,
        float(abs(strength)),
        1.0 if strength else 0.5,
        1.0 if strength else 0.0,
        tally.names if tally else (),
        tally.agreement(chosen) if tally else None,
        "adjudicated",
        comparison.id,
    )
