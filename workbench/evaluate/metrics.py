"""What can be counted about answers and about a reward model. Pure; knows texts, scores and gaps, no models.

Shapes: N = pairs or answers, K = bins. A *gap* is score(chosen) − score(rejected).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit
from sklearn.metrics import brier_score_loss

from workbench.evaluate.statistics import Floats, cluster_sums, wilson_interval

WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Bin:
    """Pairs of similar confidence (or margin), and how often they are right."""

    low: float
    """Smallest confidence (or margin) in the bin."""
    high: float
    """Largest confidence (or margin) in the bin."""
    confidence: float
    """Mean confidence (or margin) of the bin's pairs."""
    accuracy: float
    """Share right, ties ½."""
    accuracy_low: float
    """Lower end of the share's Wilson interval."""
    accuracy_high: float
    """Upper end of the share's Wilson interval."""
    count: int
    """Pairs in the bin."""


def words(text: str) -> list[str]:
    """Lower-cased words and punctuation marks, each a token of its own; white space separates."""
    return WORD.findall(text.lower())


def ngrams(tokens: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """All runs of n neighbouring tokens, in order."""
    return (tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1))


def distinct_n(texts: Sequence[str], n: int) -> float | None:
    """Share of different word n-grams among all word n-grams of a collection.

        |set of n-grams| / number of n-grams

    Source: Li et al. 2016, arXiv:1510.03055. It falls with the size of the collection and the length of its
    texts: compare only collections of as many answers to the same prompts.

    Args:
        texts: (N,) answers; n-grams never cross from one to the next.
        n: at least 1.
    Returns:
        share in (0, 1]; None where no text has n words.
    """
    assert n >= 1
    found = [gram for text in texts for gram in ngrams(words(text), n)]
    return len(set(found)) / len(found) if found else None


def unique_share(texts: Sequence[str]) -> float:
    """Share of different answers: |set of texts, outer white space dropped| / N."""
    assert texts
    return len({text.strip() for text in texts}) / len(texts)


def correctness(gaps: ArrayLike) -> Floats:
    """1 where the chosen answer scores higher, ½ where both score the same, else 0.

    Args:
        gaps: (N,) float.
    Returns:
        (N,) float64.
    """
    array = np.asarray(gaps, dtype=np.float64)
    return (np.sign(array) + 1) / 2


def equal_mass_bins(measure: ArrayLike, right: ArrayLike, *, bins: int) -> list[Bin]:
    """Sort pairs by `measure`, cut into bins of (nearly) as many pairs, and count who is right in each.

    Equal values may fall into neighbouring bins (their order is the given one).

    Args:
        measure: (N,) float, what to sort by: confidence, margin, length …
        right: (N,) float in {0, ½, 1}.
        bins: how many at most; never more than there are pairs.
    Returns:
        K bins, rising in `measure`.
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
    """Claimed confidence σ(|gap|) against the share right, in bins of equal mass.

    Source: Nguyen and O'Connor 2015, arXiv:1508.05154 (equal-mass bins), on the Bradley-Terry probability.

    Args:
        gaps: (N,) float, in nats (the Bradley-Terry logit).
        bins: 10-15 are usual.
    Returns:
        K bins with confidence in [½, 1].
    """
    return equal_mass_bins(expit(np.abs(np.asarray(gaps, dtype=np.float64))), correctness(gaps), bins=bins)


def expected_calibration_error(gaps: ArrayLike, *, bins: int = 12) -> float:
    """Mean distance of claimed confidence and share right, in [0, 1]; 0 is honest.

        ECE = Σ_k n_k/N · |accuracy_k − confidence_k|

    Source: Naeini et al. 2015 (AAAI), on equal-mass bins. Chance alone makes it > 0: see `ece_by_chance`.

    Args:
        gaps: (N,) float.
        bins: as in `reliability_bins`.
    """
    found = reliability_bins(gaps, bins=bins)
    return sum(b.count * abs(b.accuracy - b.confidence) for b in found) / sum(b.count for b in found)


def ece_by_chance(gaps: ArrayLike, *, bins: int = 12) -> float:
    r"""The calibration error that a perfectly honest model shows on these pairs, for want of pairs.

        Σ_k n_k/N · √(2/π · mean_k p(1−p) / n_k),   p = σ(|gap|)

    The mean absolute value of each bin's normal approximation; an error near it is no fault of the model.

    Args:
        gaps: (N,) float; only their size is read.
        bins: as in `reliability_bins`.
    """
    claimed = np.sort(expit(np.abs(np.asarray(gaps, dtype=np.float64))))
    parts = np.array_split(claimed, min(bins, claimed.size))
    spread = [len(part) * np.sqrt(2 / np.pi * (part * (1 - part)).mean() / len(part)) for part in parts]
    return float(sum(spread) / claimed.size)


def brier(gaps: ArrayLike) -> float:
    """Mean of (1 − σ(gap))²: 0 is perfect, ¼ is a coin. Args: gaps (N,) float.

    Source: Brier 1950; the event is "the chosen answer is preferred", which always came true.
    """
    probability = expit(np.asarray(gaps, dtype=np.float64))
    return float(brier_score_loss(np.ones(probability.size), probability, pos_label=1))


def accuracy_by_margin(gaps: ArrayLike, margins: ArrayLike | None = None, *, bins: int = 4) -> list[Bin]:
    """Accuracy in bins of equal mass by margin: are the clear cases right at least?

    Args:
        gaps: (N,) float.
        margins: (N,) float ≥ 0, such as the label's strength or the truth's gap; None takes |gap|.
        bins: how many.
    Returns:
        K bins; `confidence` holds the mean margin.
    """
    measure = np.abs(np.asarray(gaps, dtype=np.float64)) if margins is None else margins
    return equal_mass_bins(measure, correctness(gaps), bins=bins)


def correlation(left: ArrayLike, right: ArrayLike) -> float | None:
    """Pearson's correlation of two (N,) series; None where one of them is constant (or N < 2)."""
    x, y = (np.asarray(side, dtype=np.float64) for side in (left, right))
    assert x.shape == y.shape
    if x.size < 2:
        return None
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x**2).sum() * (y**2).sum()))
    tiny = 1e-24 * x.size
    return float((x * y).sum()) / scale if min((x**2).sum(), (y**2).sum()) > tiny else None


def correlation_within(left: ArrayLike, right: ArrayLike, groups: Sequence[object]) -> float | None:
    """Pearson's correlation after taking each group's own mean off both series.

    Of scores and lengths, with groups = prompts: whether among answers to the *same* prompt the longer one
    scores higher. The overall correlation mixes this with prompts whose answers are long and liked.

    Args:
        left: (N,) float.
        right: (N,) float.
        groups: (N,) hashable.
    Returns:
        in [−1, 1]; None where nothing varies inside the groups.
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
"""Nats per response, however short."""


def kl_limit(length: float) -> float:
    """KL to the reference above which a policy has left the answers that its reward model knows, nats per response.

        max(10, 0.1 · length)

    A rule of thumb: published runs with answers of 100 to 300 tokens were best between 5 and 30 nats, so the limit
    grows with the answers. Source: Stiennon et al. 2020, arXiv:2009.01325, figure 5; Gao et al. 2022, arXiv:2210.10760.

    Args:
        length: mean tokens of a response.
    """
    return max(KL_LEAST, KL_PER_TOKEN * length)
