"""The best of n answers, as a reward model picks it. Pure; knows scores, no model.

Shapes: G = prompts, K = answers to each of them.
"""

import math

import numpy as np
from scipy.special import gammaln
from scipy.stats import rankdata

from workbench.evaluate.statistics import Floats


def best_of_kl(n: int) -> float:
    """KL of best-of-n to the policy that it samples, in nats; an upper bound if answers tie.

        log n − (n − 1)/n

    Source: Stiennon et al. 2020, arXiv:2009.01325, appendix G.3; the bound: Beirami et al. 2024, arXiv:2401.01879.
    """
    return math.log(n) - (n - 1) / n


def best_of_weights(pool: int, n: int) -> Floats:
    """(pool,) chance that the i-th worst of a pool is the best of n of them, drawn without replacement.

        C(i − 1, n − 1) / C(pool, n),   i = 1 … pool

    Source: Nakano et al. 2021, arXiv:2112.09332, appendix I.
    """
    rank = np.arange(n, pool + 1)
    weights = np.zeros(pool)
    weights[n - 1 :] = np.exp(_log_binomial(rank - 1, n - 1) - _log_binomial(np.array(pool), n))
    return weights


def best_of_values(scores: Floats, values: Floats, n: int) -> Floats:
    """(G,) expected value of the answer that scores highest among n of K, drawn without replacement.

    Answers with equal scores share their chances, so constant scores give the mean of the values.

    Args:
        scores: (G, K) of K answers to each of G prompts.
        values: (G, K) what is averaged: these or other scores, or the gold reward.
        n: answers drawn, 1 … K.
    """
    assert scores.shape == values.shape
    first, last = (rankdata(scores, method=method, axis=1).astype(int) for method in ("min", "max"))
    below = np.concatenate(([0.0], best_of_weights(scores.shape[1], n).cumsum()))
    chances = (below[last] - below[first - 1]) / (last - first + 1)
    expected: Floats = (chances * values).sum(axis=1)
    return expected


def _log_binomial(total: np.ndarray, chosen: int) -> Floats:
    found: Floats = gammaln(total + 1) - gammaln(chosen + 1) - gammaln(total - chosen + 1)
    return found
