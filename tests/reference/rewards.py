"""Slow float64 oracles of rewards and whitening, one row and one token at a time, from the papers' sentences."""

import math


def token_rewards_by_definition(scores, logprobs, reference_logprobs, lengths, kl_coef):
    """Ziegler et al. 2019, eq. 2: R(x, y) = r(x, y) − β log(π(y|x) / ρ(y|x)), the log split over tokens.

    Returns one list a row, as long as its response.
    """
    rows = []
    for score, ours, theirs, length in zip(scores, logprobs, reference_logprobs, lengths, strict=True):
        row = [kl_coef * math.log(math.exp(theirs[t]) / math.exp(ours[t])) for t in range(length)]
        row[-1] += score
        rows.append(row)
    return rows


def whiten_by_definition(rows, keep_mean):
    """(x − μ) / √(σ² + 1e-8) with σ² = E[x²] − μ² over all numbers of all rows, whatever their lengths."""
    flat = [x for row in rows for x in row]
    mean = math.fsum(flat) / len(flat)
    variance = math.fsum(x * x for x in flat) / len(flat) - mean * mean
    return [[(x - mean) / math.sqrt(variance + 1e-8) + (mean if keep_mean else 0.0) for x in row] for row in rows]
