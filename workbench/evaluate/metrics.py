"""Metrics of answers and of reward models. Pure: knows texts, scores and gaps, no models.

Shapes: N = pairs or answers, K = bins. A *gap* is score(chosen) − score(rejected).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from workbench.evaluate.statistics import Floats, cluster_sums, wilson_interval

WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Bin:
    """Pairs of similar confidence (or margin), with their accuracy."""

    low: float
    """Smallest confidence (or margin) in the bin."""
    high: float
    """Largest confidence (or margin) in the bin."""
    confidence: float
    """Mean confidence (or margin) of the bin's pairs."""
    accuracy: float
    """Share ordered correctly, a tie counts ½."""
    accuracy_low: float
    """Lower end of its Wilson interval."""
    accuracy_high: float
    """Upper end of its Wilson interval."""
    count: int
    """Pairs in the bin."""


def words(text: str) -> list[str]:
    """Lower-cased words and single punctuation marks of a text."""
    return WORD.findall(text.lower())


def ngrams(tokens: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """All n-grams, in order."""
    return (tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1))


def distinct_n(texts: Sequence[str], n: int) -> float | None:
    """Share of distinct word n-grams among all word n-grams of a collection.

        |set of n-grams| / number of n-grams

    Source: Li et al. 2016, arXiv:1510.03055. It falls with the size of the collection and the length of its
    texts, so compare only collections with equally many answers to the same prompts.

    Args:
        texts: (N,) answers; no n-gram spans two of them.
        n: at least 1.
    Returns:
        share in (0, 1]; None if no text has n words.
    """
    assert n >= 1
    found = [gram for text in texts for gram in ngrams(words(text), n)]
    return len(set(found)) / len(found) if found else None


def unique_share(texts: Sequence[str]) -> float:
    """Share of distinct answers: |set of stripped texts| / N."""
    assert texts
    return len({text.strip() for text in texts}) / len(texts)


def correctness(gaps: ArrayLike) -> Floats:
    """1 if the chosen answer scores higher, ½ if both score the same, else 0.

    Args:
        gaps: (N,) float.
    Returns:
        (N,) float64.
    """
    array = np.asarray(gaps, dtype=np.float64)
    return (np.sign(array) + 1) / 2


def equal_mass_bins(measure: ArrayLike, right: ArrayLike, *, bins: int) -> list[Bin]:
    """Sort pairs by `measure`, cut them into bins of (nearly) equal size, and compute the accuracy of each bin.

    The sort is stable, so equal values may fall into neighbouring bins.

    Args:
        measure: (N,) float, the sort key: confidence, margin, length …
        right: (N,) float in {0, ½, 1}.
        bins: at most this many, and at most one per pair.
    Returns:
        K bins, ascending in `measure`.
    """
    values, correct = np.asarray(measure, dtype=np.float64), np.asarray(right, dtype=np.float64)
    assert values.shape == correct.shape
    assert values.size > 0
    assert bins >= 1
    result = []
    for chosen in np.array_split(np.argsort(values, kind="stable"), min(bins, values.size)):
        share_low, share_high = wilson_interval(float(correct[chosen].sum()), len(chosen))
        result.append(
            Bin(
                low=float(values[chosen].min()),
                high=float(values[chosen].max()),
                confidence=float(values[chosen].mean()),
                accuracy=float(correct[chosen].mean()),
                accuracy_low=share_low,
                accuracy_high=share_high,
                count=len(chosen),
            )
        )
    return result


def reliability_bins(gaps: ArrayLike, *, bins: int = 12) -> list[Bin]:
    """Confidence σ(|gap|) and accuracy in bins of equal mass.

    Source: Nguyen and O'Connor 2015, arXiv:1508.05154 (equal-mass bins), on the Bradley-Terry probability.

    Args:
        gaps: (N,) float, in nats (the Bradley-Terry logit).
        bins: 10-15 are usual.
    Returns:
        K bins with confidence in [½, 1].
    """
    return equal_mass_bins(expit(np.abs(np.asarray(gaps, dtype=np.float64))), correctness(gaps), bins=bins)


def expected_calibration_error(gaps: ArrayLike, *, bins: int = 12) -> float:
    """Mean distance between confidence and accuracy, in [0, 1]; 0 is perfectly calibrated.

        ECE = Σ_k n_k/N · |accuracy_k − confidence_k|

    Source: Naeini et al. 2015 (AAAI), on equal-mass bins. It is above 0 by chance alone: see `ece_by_chance`.

    Args:
        gaps: (N,) float.
        bins: as in `reliability_bins`.
    """
    found = reliability_bins(gaps, bins=bins)
    return sum(b.count * abs(b.accuracy - b.confidence) for b in found) / sum(b.count for b in found)


def ece_by_chance(gaps: ArrayLike, *, bins: int = 12) -> float:
    r"""The expected calibration error of a perfectly calibrated model on these pairs, which is above 0 by chance.

        Σ_k n_k/N · √(2/π · mean_k p(1−p) / n_k),   p = σ(|gap|)

    The mean absolute value of each bin's normal approximation.

    Args:
        gaps: (N,) float; only their absolute values matter.
        bins: as in `reliability_bins`.
    """
    claimed = np.sort(expit(np.abs(np.asarray(gaps, dtype=np.float64))))
    parts = np.array_split(claimed, min(bins, claimed.size))
    spread = [len(part) * np.sqrt(2 / np.pi * (part * (1 - part)).mean() / len(part)) for part in parts]
    return float(sum(spread) / claimed.size)


def brier(gaps: ArrayLike) -> float:
    """Mean of (1 − σ(gap))² over (N,) gaps: 0 is perfect, ¼ is a coin flip.

    Source: Brier 1950; the event is "the chosen answer is preferred", which is true of every pair.
    """
    return float(np.mean((1 - expit(np.asarray(gaps, dtype=np.float64))) ** 2))


def accuracy_by_margin(gaps: ArrayLike, *, bins: int = 4) -> list[Bin]:
    """Accuracy in bins of equal mass by |gap|.

    Args:
        gaps: (N,) float.
        bins: number of bins.
    Returns:
        K bins; `confidence` holds the mean |gap|.
    """
    return equal_mass_bins(np.abs(np.asarray(gaps, dtype=np.float64)), correctness(gaps), bins=bins)


def correlation(left: ArrayLike, right: ArrayLike) -> float | None:
    """Pearson's correlation of two (N,) series; None if one of them is constant or N < 2."""
    x, y = (np.asarray(side, dtype=np.float64) for side in (left, right))
    assert x.shape == y.shape
    if x.size < 2:
        return None
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x**2).sum() * (y**2).sum()))
    tiny = 1e-24 * x.size
    return float((x * y).sum()) / scale if min((x**2).sum(), (y**2).sum()) > tiny else None


def correlation_within(left: ArrayLike, right: ArrayLike, groups: Sequence[object]) -> float | None:
    """Pearson's correlation after subtracting each group's mean from both series.

    For scores and lengths with groups = prompts it says whether the longer answer to the *same* prompt scores higher.
    The overall correlation mixes this with differences between prompts.

    Args:
        left: (N,) float.
        right: (N,) float.
        groups: (N,) hashable.
    Returns:
        in [−1, 1]; None if nothing varies within the groups.
    """
    return correlation(centred(left, groups), centred(right, groups))


def centred(values: ArrayLike, groups: Sequence[object]) -> Floats:
    """(N,) values minus the mean of their own group."""
    array = np.asarray(values, dtype=np.float64)
    sums, counts = cluster_sums(array, groups)
    means = dict(zip(dict.fromkeys(groups), sums / counts, strict=True))
    return array - np.array([means[group] for group in groups])


KL_PER_TOKEN = 0.1
"""Nats."""
KL_LEAST = 10.0
"""Lowest limit, nats per response."""


def kl_limit(length: float) -> float:
    """KL to the reference, in nats per response, above which PPO and the report warn.

        max(10, 0.1 · length)

    A rule of thumb: published runs with answers of 100 to 300 tokens were best between 5 and 30 nats. Beyond that, the
    policy gives answers unlike those that the reward model was fitted on.
    Source: Stiennon et al. 2020, arXiv:2009.01325, figure 5; Gao et al. 2022, arXiv:2210.10760.

    Args:
        length: mean tokens of a response.
    """
    return max(KL_LEAST, KL_PER_TOKEN * length)
