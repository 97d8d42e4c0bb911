"""What an examination computes from scores, labels and texts. Pure; knows no model and no files.

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
    """How often two judgements of the same pair agree, ties half with anything.

        (1 + ((Σu)² − (n − t)) / (n (n − 1))) / 2,   u = ±1 for either side and 0 for a tie,   Σu = n (2a − 1)

    Only the share a is known: the number of ties t is taken as the least that fits, (n − Σu) mod 2. Without ties it
    is the share of agreeing couples of judgements, which estimates E[q² + (1 − q)²] without bias.

    Args:
        shares: (N,) share a of the judgements on the side of `chosen`, ties ½.
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
    """How often one judgement is on the better side, were all pairs equally hard.

        q = ½ + ½ √(2A − 1),   from A = q² + (1 − q)²;   ½ where A ≤ ½

    Where pairs differ in difficulty this is an upper bound (Jensen): E|q − ½| ≤ √E(q − ½)².

    Args:
        agreement: A, how often two judgements agree.
    """
    return 0.5 + 0.5 * math.sqrt(max(0.0, 2 * agreement - 1))


def majority_right(right: float, count: int) -> float:
    """How often the majority of n judgements is on the better side, equal votes ½.

    P(X > n/2) + ½ P(X = n/2),   X ~ Binomial(n, q)
    """
    assert count >= 1
    even = 0.5 * float(binom.pmf(count // 2, count, right)) if count % 2 == 0 else 0.0
    return float(binom.sf(count // 2, count, right)) + even


def noise_ceiling(
    shares: ArrayLike, counts: ArrayLike, groups: Sequence[str], label_counts: Sequence[int], *, seed: int
) -> Estimate:
    """How often a model that always knows the better answer would agree with the labels.

        mean over labels of majority_right(q, n_label),   q from the agreement of all pairs judged several times

    Args:
        shares, counts, groups: (N,) of the pairs judged several times; see `judgement_agreement`.
        label_counts: (M,) judgements behind each label that the model is measured on.
        seed: of the bootstrap over prompts.
    """
    agreement = bootstrap_interval(judgement_agreement(shares, counts), groups, seed=seed)
    sizes, often = np.unique(np.maximum(np.asarray(label_counts), 1), return_counts=True)

    def ceiling(at: float) -> float:
        right = right_of_agreement(at)
        return float(sum(n * majority_right(right, int(s)) for s, n in zip(sizes, often, strict=True)) / often.sum())

    ends = (ceiling(agreement.mean), ceiling(agreement.low), ceiling(agreement.high))
    return Estimate(*ends, agreement.count, agreement.prompts)


def fit_temperature(gaps: ArrayLike) -> float:
    """The temperature T > 0 at which σ(gap / T) is likeliest to have made the labels.

        argmin_T Σ log(1 + e^(−gap / T))

    Source: Guo et al. 2017, arXiv:1706.04599, section 4.2, for two classes. Bounded to [0.01, 100]: labels that are
    all right (or no better than chance) have no finite best T.

    Args:
        gaps: (N,) float.
    """
    array = np.asarray(gaps, dtype=np.float64)
    assert array.size > 0
    found = minimize_scalar(
        lambda log_t: float(np.logaddexp(0, -array * math.exp(-log_t)).mean()),
        bounds=(math.log(0.01), math.log(100)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return math.exp(float(found.x))


def half_of_groups(groups: Sequence[str], *, seed: int) -> NDArray[np.bool_]:
    """(N,) True for a random half of the prompts (one more False where they are odd)."""
    names = list(dict.fromkeys(groups))
    chosen = np.random.default_rng(seed).permutation(len(names))[: len(names) // 2]
    picked = {names[index] for index in chosen}
    return np.array([group in picked for group in groups])


def raised(before: ArrayLike, after: ArrayLike, groups: Sequence[str]) -> Estimate:
    """Share of answers that score strictly higher after than before, with its interval over prompts."""
    up = np.asarray(after, dtype=np.float64) > np.asarray(before, dtype=np.float64)
    return share_interval(up.astype(np.float64), groups)


def correlation_within_interval(
    left: ArrayLike, right: ArrayLike, groups: Sequence[str], *, seed: int, resamples: int = 2000
) -> Estimate | None:
    """`correlation_within` with a percentile bootstrap over prompts; None where nothing varies within prompts.

    r* = Σ_g sxy_g / √(Σ_g sxx_g Σ_g syy_g) over the prompts drawn; sums of products of centred values
    """
    mean = correlation_within(left, right, groups)
    if mean is None:
        return None
    x, y = (centred(side, groups) for side in (left, right))
    products = [cluster_sums(product, groups)[0] for product in (x * y, x * x, y * y)]
    rng, count = np.random.default_rng(seed), len(products[0])
    drawn = rng.integers(count, size=(resamples, count))
    xy, xx, yy = (part[drawn].sum(1) for part in products)
    scale = np.sqrt(xx * yy)
    values = xy[scale > 0] / scale[scale > 0]
    low, high = np.quantile(values, [0.025, 0.975])
    return Estimate(mean, float(low), float(high), len(x), count)


@dataclass(frozen=True)
class Slice:
    """Accuracy on some of the pairs."""

    by: str
    """What they are told apart by: strength, agreement, source, prompt length, length gap."""
    name: str
    accuracy: Estimate


def slices(gaps: ArrayLike, groups: Sequence[str], labels: Mapping[str, Sequence[str | None]]) -> list[Slice]:
    """Accuracy of each value of each label; pairs with None are in no slice.

    Args:
        gaps: (N,) float. groups: (N,) prompts.
        labels: what pairs are told apart by → (N,) the value of each.
    """
    right = correctness(gaps)
    found = []
    for by, values in labels.items():
        for name in sorted({value for value in values if value is not None}):
            inside = np.array([value == name for value in values])
            own = [group for group, keep in zip(groups, inside, strict=True) if keep]
            found.append(Slice(by, name, share_interval(right[inside], own)))
    return found


def thirds(values: ArrayLike, names: tuple[str, str, str]) -> list[str]:
    """Which third of the values each is in: up to the ⅓ quantile, up to the ⅔ quantile, above."""
    array = np.asarray(values, dtype=np.float64)
    edges = np.quantile(array, [1 / 3, 2 / 3])
    return [names[int(place)] for place in np.searchsorted(edges, array, side="left")]


def telling_words(chosen: Sequence[str], rejected: Sequence[str], *, most: int) -> list[tuple[str, float]]:
    """The words whose mere presence tells the label best, with how often they do.

        |P(word in chosen only) − P(word in rejected only)|

    Args:
        chosen, rejected: (N,) answers.
        most: how many words.
    Returns:
        (word, signed difference) by falling size; positive for words of chosen answers. Equal ones by the alphabet.
    """
    assert len(chosen) == len(rejected) > 0
    balance: dict[str, int] = {}
    for good, bad in zip(chosen, rejected, strict=True):
        one, other = set(words(good)), set(words(bad))
        for word in one - other:
            balance[word] = balance.get(word, 0) + 1
        for word in other - one:
            balance[word] = balance.get(word, 0) - 1
    ranked = sorted(balance.items(), key=lambda item: (-abs(item[1]), item[0]))
    return [(word, count / len(chosen)) for word, count in ranked[:most]]
