"""Statistics of an examination, from scores, labels and texts. Pure; knows no model and no files.

Shapes: N = pairs or answers, G = prompts. A *gap* is score(chosen) − score(rejected).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.stats import binom

from workbench.evaluate.metrics import centred, correctness, correlation_within, words
from workbench.evaluate.statistics import Estimate, Floats, bootstrap_interval, cluster_sums, share_interval


def judgement_agreement(shares: ArrayLike, counts: ArrayLike) -> Floats:
    """How often two judgements of the same pair agree; a tie agrees half with anything.

        (1 + ((Σu)² − (n − t)) / (n (n − 1))) / 2,   u = ±1 for either side and 0 for a tie,   Σu = n (2a − 1)

    Only the share a is known, so the number of ties t is the smallest that fits, (n − Σu) mod 2. Without ties this is
    the share of agreeing pairs of judgements, an unbiased estimate of E[q² + (1 − q)²].

    Args:
        shares: (N,) share a of the judgements that prefer `chosen`, ties ½.
        counts: (N,) judgements n ≥ 2.
    Returns:
        (N,) float64 in [0, 1].
    """
    share, count = np.asarray(shares, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    assert share.shape == count.shape
    assert (count >= 2).all()
    total = np.rint(count * (2 * share - 1))
    ties = np.mod(count - total, 2)
    return (1 + (total**2 - (count - ties)) / (count * (count - 1))) / 2


def right_of_agreement(agreement: float) -> float:
    """How often one judgement would prefer the better answer if all pairs were equally hard.

        q = ½ + ½ √(2A − 1),   from A = q² + (1 − q)²;   ½ if A ≤ ½

    If pairs differ in difficulty this is an upper bound (Jensen): E|q − ½| ≤ √E(q − ½)².

    Args:
        agreement: A, how often two judgements agree.
    """
    return 0.5 + 0.5 * math.sqrt(max(0.0, 2 * agreement - 1))


def majority_right(right: float, count: int) -> float:
    """How often the majority of n judgements prefers the better answer; an even split counts ½.

    P(X > n/2) + ½ P(X = n/2),   X ~ Binomial(n, q)
    """
    assert count >= 1
    even = 0.5 * float(binom.pmf(count // 2, count, right)) if count % 2 == 0 else 0.0
    return float(binom.sf(count // 2, count, right)) + even


def noise_ceiling(
    shares: ArrayLike, counts: ArrayLike, groups: Sequence[str], label_counts: Sequence[int], *, seed: int
) -> Estimate:
    """How often a model that always knows the better answer would agree with the labels.

        mean over labels of majority_right(q, n_label),   q from the agreement of the pairs judged several times

    Args:
        shares, counts, groups: (N,) for the pairs judged several times; see `judgement_agreement`.
        label_counts: (M,) judgements behind each label that the model is measured on.
        seed: of the bootstrap over prompts.
    """
    agreement = bootstrap_interval(judgement_agreement(shares, counts), groups, seed=seed)
    sizes, numbers = np.unique(np.maximum(np.asarray(label_counts), 1), return_counts=True)

    def ceiling(agreement: float) -> float:
        right = right_of_agreement(agreement)
        total = sum(number * majority_right(right, int(size)) for size, number in zip(sizes, numbers, strict=True))
        return float(total / numbers.sum())

    ends = (ceiling(agreement.mean), ceiling(agreement.low), ceiling(agreement.high))
    return Estimate(*ends, agreement.count, agreement.prompts)


def fit_temperature(gaps: ArrayLike) -> float:
    """The temperature T > 0 that makes the labels most likely under σ(gap / T).

        argmin_T Σ log(1 + e^(−gap / T))

    Source: Guo et al. 2017, arXiv:1706.04599, section 4.2, for two classes. Bounded to [0.01, 100], because gaps that
    order all labels rightly, or no better than chance, have no finite best T.

    Args:
        gaps: (N,) float.
    """
    array = np.asarray(gaps, dtype=np.float64)
    assert array.size > 0
    best = minimize_scalar(
        lambda log_t: float(np.logaddexp(0, -array * math.exp(-log_t)).mean()),
        bounds=(math.log(0.01), math.log(100)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return math.exp(float(best.x))


def half_of_groups(groups: Sequence[str], *, seed: int) -> NDArray[np.bool_]:
    """(N,) True for the pairs of a random half of the prompts, rounded down."""
    names = list(dict.fromkeys(groups))
    chosen = np.random.default_rng(seed).permutation(len(names))[: len(names) // 2]
    picked = {names[index] for index in chosen}
    return np.array([group in picked for group in groups])


def raised(before: ArrayLike, after: ArrayLike, groups: Sequence[str]) -> Estimate:
    """Share of answers that score strictly higher after a change than before, with its interval over prompts."""
    higher = np.asarray(after, dtype=np.float64) > np.asarray(before, dtype=np.float64)
    return share_interval(higher.astype(np.float64), groups)


def correlation_within_interval(
    left: ArrayLike, right: ArrayLike, groups: Sequence[str], *, seed: int, resamples: int = 2000
) -> Estimate | None:
    """`correlation_within` with a percentile bootstrap over prompts; None if nothing varies within prompts.

    r* = Σ_g sxy_g / √(Σ_g sxx_g Σ_g syy_g)   over the drawn prompts g; s: sums of products of centred values
    """
    mean = correlation_within(left, right, groups)
    if mean is None:
        return None
    x, y = (centred(side, groups) for side in (left, right))
    products = [cluster_sums(product, groups)[0] for product in (x * y, x * x, y * y)]  # (G,) each
    rng, count = np.random.default_rng(seed), len(products[0])
    drawn = rng.integers(count, size=(resamples, count))  # each row is one resample of the G prompts
    xy, xx, yy = (part[drawn].sum(1) for part in products)
    scale = np.sqrt(xx * yy)
    values = xy[scale > 0] / scale[scale > 0]
    low, high = np.quantile(values, [0.025, 0.975])
    return Estimate(mean, float(low), float(high), len(x), count)


@dataclass(frozen=True)
class Slice:
    """Accuracy on the pairs that share one value of a property."""

    by: str
    """The property: strength, agreement, source, prompt length or length gap."""
    name: str
    accuracy: Estimate


def slices(gaps: ArrayLike, groups: Sequence[str], labels: Mapping[str, Sequence[str | None]]) -> list[Slice]:
    """Accuracy for each value of each property; pairs with None are in no slice.

    Args:
        gaps: (N,) float. groups: (N,) prompts.
        labels: property → (N,) the value of each pair.
    """
    right = correctness(gaps)
    accuracies = []
    for by, values in labels.items():
        for name in sorted({value for value in values if value is not None}):
            inside = np.array([value == name for value in values])
            own = [group for group, keep in zip(groups, inside, strict=True) if keep]
            accuracies.append(Slice(by, name, share_interval(right[inside], own)))
    return accuracies


def thirds(values: ArrayLike, names: tuple[str, str, str]) -> list[str]:
    """Which third of the values each is in: up to the ⅓ quantile, up to the ⅔ quantile, above."""
    array = np.asarray(values, dtype=np.float64)
    edges = np.quantile(array, [1 / 3, 2 / 3])
    return [names[int(place)] for place in np.searchsorted(edges, array, side="left")]


def telling_words(chosen: Sequence[str], rejected: Sequence[str], *, most: int) -> list[tuple[str, float]]:
    """The words whose presence predicts the label best, with how well they do.

        |P(word in chosen only) − P(word in rejected only)|

    Args:
        chosen, rejected: (N,) answers.
        most: how many words.
    Returns:
        (word, signed difference), largest first; positive for words of chosen answers. Ties are in alphabetical order.
    """
    assert len(chosen) == len(rejected) > 0
    balance: dict[str, int] = {}
    for good, bad in zip(chosen, rejected, strict=True):
        good_words, bad_words = set(words(good)), set(words(bad))
        for word in good_words - bad_words:
            balance[word] = balance.get(word, 0) + 1
        for word in bad_words - good_words:
            balance[word] = balance.get(word, 0) - 1
    ranked = sorted(balance.items(), key=lambda item: (-abs(item[1]), item[0]))
    return [(word, count / len(chosen)) for word, count in ranked[:most]]
