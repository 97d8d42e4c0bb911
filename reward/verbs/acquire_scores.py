"""How informative a label of a pair would be, from the scores of one or several reward models. Pure.

Shapes: M = models, N = pairs. A *gap* is score(first) − score(second), raw, in logits.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr, expit

from workbench.evaluate.statistics import Floats


def binary_entropy(probability: ArrayLike) -> Floats:
    """Entropy of a binary outcome in nats: 0 if it is certain, log 2 at ½.

        H(p) = −p log p − (1 − p) log(1 − p)

    Args:
        probability: any shape, in [0, 1].
    """
    p = np.asarray(probability, dtype=np.float64)
    return np.asarray(entr(p) + entr(1 - p), dtype=np.float64)


def uncertainty(gaps: ArrayLike) -> Floats:
    """Entropy of the models' mean probability.

        H(mean_m σ(gap_m))

    Source: Lewis & Gale 1994, arXiv:cmp-lg/9407020 (uncertainty sampling).

    Args:
        gaps: (M, N) float.
    Returns:
        (N,) float64 in [0, log 2], nats.
    """
    return binary_entropy(expit(_table(gaps)).mean(axis=0))


def disagreement(gaps: ArrayLike) -> Floats:
    """Standard deviation of the models' probabilities.

        sd_m σ(gap_m)     (population)

    Source: the ensemble's spread as in Christiano et al. 2017, arXiv:1706.03741, section 2.2.4; over probabilities
    rather than scores, so that two models that are both certain of the same outcome agree.

    Args:
        gaps: (M, N) float, M ≥ 2.
    Returns:
        (N,) float64 in [0, ½].
    """
    table = _table(gaps)
    assert len(table) >= 2
    return np.asarray(expit(table).std(axis=0), dtype=np.float64)


def bald(gaps: ArrayLike) -> Floats:
    """Mutual information of label and model: the joint uncertainty minus the models' own mean uncertainty.

        H(mean_m σ(gap_m)) − mean_m H(σ(gap_m))

    Source: Houlsby et al. 2011, arXiv:1112.5745, eq. 2.

    Args:
        gaps: (M, N) float, M ≥ 2.
    Returns:
        (N,) float64 in [0, log 2], nats.
    """
    table = _table(gaps)
    assert len(table) >= 2
    return np.maximum(uncertainty(table) - binary_entropy(expit(table)).mean(axis=0), 0.0)


def wide_gaps(gaps: ArrayLike) -> Floats:
    """Upper bound of the size of the gap: pairs of which one answer may be much better come first.

        |mean_m gap_m| + sd_m gap_m     (population; one model: its |gap|)

    Source: DeltaUCB, arXiv:2603.09692, with the ensemble's spread of the gap as the width of the bound.

    Args:
        gaps: (M, N) float.
    Returns:
        (N,) float64 ≥ 0, logits.
    """
    table = _table(gaps)
    return np.asarray(np.abs(table.mean(axis=0)) + table.std(axis=0), dtype=np.float64)


def d_optimal(features: ArrayLike, gaps: ArrayLike, number: int, *, ridge: float = 1.0) -> NDArray[np.int64]:
    """The pairs that together determine a linear score head best: greedy, by the determinant of its information.

        each step takes argmax_i log det(A + w_i x_i x_iᵀ),   A = ridge I + Σ_taken w x xᵀ,   w = σ(gap) (1 − σ(gap))

    Features are scaled so that the mean of w |x|² is 1, so `ridge` does not depend on the model.

    Source: Fisher information of the last layer under Bradley-Terry, Shen et al. 2025, arXiv:2502.04354; greedy steps
    by the Sherman-Morrison formula.

    Args:
        features: (N, D) float, the last hidden state of the first answer minus that of the second.
        gaps: (N,) float, logits.
        number: pairs to take, at most N.
    Returns:
        (number,) int64, indices in the order in which they were taken; of equal pairs the first.
    """
    x = np.asarray(features, dtype=np.float64)
    assert x.ndim == 2
    share = expit(np.asarray(gaps, dtype=np.float64))
    x = x * np.sqrt(share * (1 - share))[:, None]
    mean = np.square(x).sum(axis=1).mean()
    x = x / np.sqrt(mean) if mean > 0 else x
    inverse = np.eye(x.shape[1]) / ridge
    gains = np.square(x).sum(axis=1) / ridge  # xᵀ A⁻¹ x: the determinant grows by 1 + this
    taken = np.zeros(min(number, len(x)), dtype=np.int64)
    open_pairs = np.ones(len(x), dtype=bool)
    for step in range(len(taken)):
        best = int(np.argmax(np.where(open_pairs, gains, -1.0)))
        taken[step], open_pairs[best] = best, False
        direction = inverse @ x[best]
        inverse -= np.outer(direction, direction) / (1 + gains[best])
        gains = gains - np.square(x @ direction) / (1 + gains[best])
    return taken


def best_first(values: ArrayLike, tie_breaks: ArrayLike) -> NDArray[np.int64]:
    """The pairs from the highest value to the lowest.

    Args:
        values: (N,) float.
        tie_breaks: (N,) float; among pairs of equal value, the lower one comes first.
    Returns:
        (N,) int64, indices.
    """
    return np.lexsort((np.asarray(tie_breaks), -np.asarray(values, dtype=np.float64)))


def length_balanced(lengths: ArrayLike, tie_breaks: ArrayLike, *, bins: int = 5) -> NDArray[np.int64]:
    """An order whose every prefix has about as many pairs of similar length as of very different length.

        bin = ⌊|log((a + 1) / (b + 1))| / w⌋,   w = the largest / bins;   one pair of each bin in turn

    How often one answer is much longer depends on the sampler. A reward model that sees few pairs of one kind learns
    "longer is better" from the other.

    Args:
        lengths: (N, 2) float ≥ 0, of the first and of the second answer.
        tie_breaks: (N,) float; within a bin the lower comes first.
        bins: how many, of equal width.
    Returns:
        (N,) int64, indices.
    """
    both = np.asarray(lengths, dtype=np.float64)
    assert both.ndim == 2
    assert both.shape[1] == 2
    ratios = np.abs(np.log((both[:, 0] + 1) / (both[:, 1] + 1)))
    width = ratios.max(initial=0) / bins
    bin_of = np.minimum(ratios // width, bins - 1).astype(int) if width > 0 else np.zeros(len(ratios), dtype=int)
    order = np.argsort(tie_breaks, kind="stable")
    turn = np.empty(len(order), dtype=int)  # the rank of each pair within its bin
    for number in range(bins):
        members = order[bin_of[order] == number]
        turn[members] = np.arange(len(members))
    return np.lexsort((bin_of, turn))


def _table(gaps: ArrayLike) -> Floats:
    table = np.asarray(gaps, dtype=np.float64)
    assert table.ndim == 2
    return table
