"""How reliable each annotator is, and the labels that all judgements together suggest. Pure: numbers in, numbers out.

A *class* says which answer is better: 0 the first, 1 neither (a tie, or both bad), 2 the second, in the order of the
item's responses. `flips` marks judgements made with the sides swapped: an annotator's mistakes are counted as sides
(left, tie, right), so that a bias towards the left side becomes visible.

Shapes: M = judgements, N = items, A = annotators, C = classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.evaluate.statistics import Floats

Integers = NDArray[np.int64]

CLASSES = 3
"""First better, tie, second better."""
_LEAST = 1e-10
"""Smallest probability, so that its logarithm is finite."""


@dataclass(frozen=True)
class DawidSkene:
    """Class probabilities of the items, and the mistakes of each annotator."""

    posteriors: Floats
    """(N, C) probability of each class."""
    prior: Floats
    """(C,) share of each class."""
    confusion: Floats
    """(A, C, C) `[a, c, l]`: probability that annotator a answers l if c is right; rows sum to 1."""
    iterations: int
    converged: bool

    @property
    def reliability(self) -> Floats:
        """(A,) probability that the annotator's answer is the right one: Σ_c prior_c · confusion[a, c, c]."""
        diagonal: Floats = np.einsum("acc->ac", self.confusion) @ self.prior
        return diagonal

    @property
    def informedness(self) -> Floats:
        """(A,) how much more often the annotator prefers an answer if it is better than if the other one is better.

            ½ Σ_c π(c | c) − π(c | C−1−c),  c = 0 and C−1:  0 for random judgements, 1 for perfect ones

        Source: Youden 1950, Cancer 3(1).
        """
        first, last = self.confusion[:, 0], self.confusion[:, -1]
        apart: Floats = (first[:, 0] - last[:, 0] + last[:, -1] - first[:, -1]) / 2
        return apart


def dawid_skene(
    items: ArrayLike,
    annotators: ArrayLike,
    labels: ArrayLike,
    *,
    flips: ArrayLike | None = None,
    known: ArrayLike | None = None,
    classes: int = CLASSES,
    pooling: float = 0.0,
    iterations: int = 300,
    tolerance: float = 1e-5,
) -> DawidSkene:
    """Estimate the classes of items and the mistakes of annotators jointly.

        E: q_i(c) ∝ p_c Π_{j on i} π_{a_j}(l_j | c)
        M: p_c = mean_i q_i(c),   π_a(l | c) ∝ Σ_{j by a, l_j = l} q_i(c) + pooling · π̄(l | c)

    with π̄ the mistakes of all annotators pooled. Starts from the shares of the votes. Only items with two judgements or
    more, and known items, determine p and π: an item that was judged once would always agree with its only annotator.

    Source: Dawid and Skene 1979. Differs from crowd-kit's `DawidSkene`: single judgements do not count, and there are
    known items, sides and pooling. With all items judged twice, none known or flipped and pooling 0 both agree.

    Args:
        items, annotators: (M,) int codes, 0 … N−1 and 0 … A−1.
        labels: (M,) int in 0 … C−1.
        flips: (M,) bool, shown with swapped sides: class c is then seen as C−1−c. None: never.
        known: (N,) int, the class of a known item, −1 for others. None: no item is known.
        pooling: ≥ 0, pseudo-judgements per class that each annotator gets from the pool.
        tolerance: stop once no posterior changes by more.
    Returns:
        posteriors (N, C); uniform times the prior for items without judgements.
    """
    rows, people, answers = (np.asarray(x, dtype=np.int64) for x in (items, annotators, labels))
    assert rows.shape == people.shape == answers.shape
    assert answers.size == 0 or (answers.min() >= 0 and answers.max() < classes)
    fixed = np.full(int(rows.max(initial=-1)) + 1, -1) if known is None else np.asarray(known, dtype=np.int64)
    seen = np.zeros(len(rows), bool) if flips is None else np.asarray(flips, dtype=bool)
    return _expect_and_maximise(_indices(rows, people, answers, seen, classes), fixed, pooling, iterations, tolerance)


@dataclass(frozen=True)
class _Indices:
    """Indices of each judgement and class (M, C) in the flattened tables."""

    rows: Integers
    """(M,) item."""
    in_items: Integers
    """(M, C) into the table (N, C)."""
    in_mistakes: Integers
    """(M, C) into the table (A, C, C): annotator, class as a side, answer as a side."""
    votes: Floats
    """(N, C) number of judgements per class."""
    people: int


def _indices(rows: Integers, people: Integers, answers: Integers, flips: NDArray[np.bool_], size: int) -> _Indices:
    classes = np.arange(size)
    sides = np.where(flips[:, None], size - 1 - classes, classes)
    said = np.where(flips, size - 1 - answers, answers)
    items = int(rows.max(initial=-1)) + 1
    return _Indices(
        rows,
        rows[:, None] * size + classes,
        (people[:, None] * size + sides) * size + said[:, None],
        np.bincount(rows * size + answers, minlength=items * size).reshape(items, size).astype(float),
        int(people.max(initial=-1)) + 1,
    )


def _expect_and_maximise(
    indices: _Indices, known: Integers, pooling: float, iterations: int, tolerance: float
) -> DawidSkene:
    items, size = len(known), indices.in_items.shape[1]
    votes = np.zeros((items, size))
    votes[: len(indices.votes)] = indices.votes
    teaching = (votes.sum(1) >= 2) | (known >= 0)
    teaches = teaching[indices.rows]
    posteriors = _with_known(votes / np.maximum(votes.sum(1, keepdims=True), 1), known)
    prior, confusion = np.full(size, 1 / size), np.full((indices.people, size, size), 1 / size)
    changed, done = np.inf, 0
    while done < iterations and changed > tolerance and len(indices.rows):
        if teaching.any():
            prior = posteriors[teaching].mean(0)
            confusion = _mistakes(indices, posteriors, teaches, pooling)
        likelihoods = np.log(confusion).ravel()[indices.in_mistakes]
        logs = np.bincount(indices.in_items.ravel(), weights=likelihoods.ravel(), minlength=items * size)
        logs = logs.reshape(items, size) + np.log(np.maximum(prior, _LEAST))
        new = np.exp(logs - logs.max(1, keepdims=True))
        new = _with_known(new / new.sum(1, keepdims=True), known)
        changed, posteriors, done = float(np.abs(new - posteriors).max()), new, done + 1
    return DawidSkene(posteriors, prior, confusion, done, changed <= tolerance)


def _mistakes(indices: _Indices, posteriors: Floats, teaches: NDArray[np.bool_], pooling: float) -> Floats:
    people, size = indices.people, posteriors.shape[1]
    weights = posteriors[indices.rows] * teaches[:, None]
    flat = np.bincount(indices.in_mistakes.ravel(), weights=weights.ravel(), minlength=people * size * size)
    counts = flat.reshape(people, size, size)  # annotator, class, answer
    together = np.maximum(counts.sum(0), _LEAST)
    lent = pooling * together / together.sum(1, keepdims=True)
    counts = np.maximum(counts + lent, _LEAST)
    mistakes: Floats = counts / counts.sum(2, keepdims=True)
    return mistakes


def _with_known(posteriors: Floats, known: Integers) -> Floats:
    return np.where(known[:, None] >= 0, np.eye(posteriors.shape[1])[known], posteriors)


def classes_of(strengths: ArrayLike) -> Integers:
    """(M,) strengths (negative: the first answer is better) → classes."""
    return np.sign(np.asarray(strengths, dtype=np.int64)) + 1


@dataclass(frozen=True)
class Speed:
    """Unusually quick judgements."""

    fence: float | None
    """Seconds; quicker judgements are outliers. None: too few timed judgements."""
    outliers: NDArray[np.bool_]
    """(M,) quicker than the fence."""


def speed_outliers(seconds: ArrayLike, *, least: int = 20) -> Speed:
    """Find judgements that were much quicker than the others.

        log s < Q1 − 1.5 (Q3 − Q1)    of all log s

    Source: Tukey 1977 (fences), on logarithms because times are skewed.

    Args:
        seconds: (M,) float, NaN where not known.
        least: timed judgements that are needed.
    """
    times = np.asarray(seconds, dtype=float)
    timed = np.log(np.maximum(times[~np.isnan(times)], 0.001))
    if len(timed) < least:
        return Speed(None, np.zeros(len(times), bool))
    low, high = np.quantile(timed, [0.25, 0.75])
    fence = float(np.exp(low - 1.5 * (high - low)))
    return Speed(fence, np.nan_to_num(times, nan=np.inf) < fence)


def share_by(people: Integers, hits: ArrayLike, counted: ArrayLike, count: int) -> tuple[Integers, Integers]:
    """(A,) hits and (A,) cases of each annotator, among the judgements that count.

    Args:
        people: (M,) codes of annotators.
        hits, counted: (M,) bool.
        count: A.
    """
    cases = np.asarray(counted, dtype=bool)
    hit = np.bincount(people[cases], weights=np.asarray(hits, dtype=float)[cases], minlength=count)
    return np.round(hit).astype(np.int64), np.bincount(people[cases], minlength=count).astype(np.int64)


def agreement_with_others(items: Integers, people: Integers, labels: Integers, count: int) -> tuple[Integers, Integers]:
    """(A,) how often each annotator and another one gave an item the same class, and (A,) how many such pairs."""
    rows = int(items.max(initial=-1)) + 1
    table = np.bincount(items * CLASSES + labels, minlength=rows * CLASSES).reshape(rows, CLASSES)
    same = np.bincount(people, weights=table[items, labels] - 1, minlength=count)
    pairs = np.bincount(people, weights=table.sum(1)[items] - 1, minlength=count)
    return np.round(same).astype(np.int64), np.round(pairs).astype(np.int64)
