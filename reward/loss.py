"""The log-likelihoods that a reward model maximises on pairs of scores. Pure.

Shapes: N = pairs, S = levels of strength. The gap of a pair is score(chosen) − score(rejected), in logits.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def bradley_terry_log_likelihood(gaps: Tensor, *, targets: Tensor | float = 1.0) -> Tensor:
    """Expected log-probability of who wins: the negative cross-entropy against a soft label.

        q log σ(gap) + (1 − q) log σ(−gap)

    Source: Stiennon et al. 2020, arXiv:2009.01325, section 3.4 (q = 1); soft labels of uncertain annotators: Peterson
    et al. 2019, arXiv:1908.07086.

    Args:
        gaps: (N,) float.
        targets: (N,) float or one number, q: probability that the chosen response is the better one.

    Returns:
        (N,) float ≤ 0.
    """
    return targets * logsigmoid(gaps) + (1 - targets) * logsigmoid(-gaps)


def ordinal_log_likelihood(
    gaps: Tensor, levels: Tensor, thresholds: Tensor, *, targets: Tensor | float = 1.0
) -> Tensor:
    """Expected log-probability of the judged strength of each pair; ties and strengths share one model.

        P(strength ≥ j) = σ(gap − θ_j),   P(tie) = σ(gap + θ_1) − σ(gap − θ_1),   0 ≤ θ_1 < … < θ_S
        q log P(level | gap) + (1 − q) log P(level | −gap)

    A soft label leaves open which side the strength was for; a tie is the same for both. With ties and one level of
    strength (S = 1) this is Rao & Kupper's model of ties; with θ_1 = 0, no ties and S = 1 it is Bradley & Terry's.

    Source: Agresti 1992, "Analysis of ordinal paired comparison data", Applied Statistics 41(2), the cumulative logit
    model; Rao & Kupper 1967, JASA 62. Davidson's ties (1970) belong to the adjacent-category model, which has no latent
    gap, so further levels of strength would share nothing with the ties.

    Args:
        gaps: (N,) float.
        levels: (N,) float in [0, S]: 0 tie, j the j-th strength; for an averaged strength between two levels, the
            log-probabilities of both are mixed.
        thresholds: (S,) float, ascending; θ_1 = 0 if no pair is a tie.
        targets: (N,) float or one number, q: probability that the chosen response is the better one.

    Returns:
        (N,) float ≤ 0.
    """
    assert gaps.shape == levels.shape
    infinity = thresholds.new_full((1,), float("inf"))
    bounds = torch.cat((-thresholds[:1], thresholds, infinity))  # (S + 2,): level j lies between bounds j and j + 1
    lower = levels.floor().long()  # (N,)
    share = levels - lower  # (N,) 0 for a whole level

    def at_level(level: Tensor) -> Tensor:
        """(N,) log-probability of whole levels, expected over which side won."""
        low, high = bounds[level], bounds[level + 1]

        def won_by(gap: Tensor) -> Tensor:
            # σ(a) − σ(b) = σ(a) σ(−b) (1 − e^(b − a)) keeps its precision if both are near 0 or near 1.
            return logsigmoid(gap - low) + logsigmoid(high - gap) + torch.log1p(-torch.exp(low - high))

        return targets * won_by(gaps) + (1 - targets) * won_by(-gaps)

    upper = levels.ceil().long()
    return torch.where(share > 0, (1 - share) * at_level(lower) + share * at_level(upper), at_level(lower))


def thresholds_of(raw: Tensor, *, ties: bool) -> Tensor:
    """Ascending thresholds (S,) ≥ 0 from unbounded parameters: sums of softplus; the first is 0 without ties.

    Args:
        raw: (S,) float, or (S − 1,) without ties.
        ties: whether the first threshold is fitted.
    """
    steps = torch.nn.functional.softplus(raw).cumsum(0)
    return steps if ties else torch.cat((steps.new_zeros(1), steps))


def first_thresholds(shares: Tensor) -> Tensor:
    """Thresholds (S,) that would explain how often each level occurs if all gaps were 0: where fitting starts.

        2 σ(θ_j) − 1 = share of pairs below level j

    Args:
        shares: (S + 1,) float, the share of pairs at each level, ties first; sums to 1.
    """
    below = shares.cumsum(0)[:-1].clamp(0, 0.99)
    return torch.logit((1 + below) / 2)
