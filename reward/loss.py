"""What a reward model maximises on pairs of scores. Pure.

Shapes: N = pairs, S = levels of strength. The gap of a pair is score(chosen) − score(rejected), in logits.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def smoothed(probabilities: Tensor, label_smoothing: float) -> Tensor:
    """Probabilities that the chosen response is the better one, were each label exchanged with probability ε.

        q = (1 − ε) p + ε (1 − p)

    Args:
        probabilities: (N,) float in [0, 1], 1 for a hard label.
        label_smoothing: ε, in [0, ½).

    Returns:
        (N,) float in [ε, 1 − ε]: the target of a loss.
    """
    return (1 - label_smoothing) * probabilities + label_smoothing * (1 - probabilities)


def bradley_terry_log_likelihood(
    gaps: Tensor, *, margins: Tensor | float = 0.0, targets: Tensor | float = 1.0
) -> Tensor:
    """Expected log-probability of who wins, the cross-entropy against a soft label with its sign turned.

        q log σ(gap − margin) + (1 − q) log σ(margin − gap)

    Source: Stiennon et al. 2020, arXiv:2009.01325, section 3.4 (q = 1); the margin: Touvron et al. 2023,
    arXiv:2307.09288, eq. 2; soft labels of uncertain annotators: Peterson et al. 2019, arXiv:1908.07086.

    Args:
        gaps: (N,) float.
        margins: (N,) float or one number, by how much the chosen response shall win.
        targets: (N,) float or one number, q: probability that the chosen response is the better one.

    Returns:
        (N,) float ≤ 0.
    """
    apart = gaps - margins
    return targets * logsigmoid(apart) + (1 - targets) * logsigmoid(-apart)


def ordinal_log_likelihood(
    gaps: Tensor, levels: Tensor, thresholds: Tensor, *, targets: Tensor | float = 1.0
) -> Tensor:
    """Expected log-probability of the judged strength of each pair: ties and strengths in one model.

        P(strength ≥ j) = σ(gap − θ_j),   P(tie) = σ(gap + θ_1) − σ(gap − θ_1),   0 ≤ θ_1 < … < θ_S
        q log P(level | gap) + (1 − q) log P(level | −gap)

    A soft label leaves open for which side the strength was; a tie is the same for both. With ties but
    one level of strength (S = 1) it is Rao & Kupper's model of ties; with θ_1 = 0, no ties and S = 1 it is Bradley &
    Terry's.

    Source: Agresti 1992, "Analysis of ordinal paired comparison data", Applied Statistics 41(2), the cumulative logit
    model; Rao & Kupper 1967, JASA 62. Davidson's 1970 ties belong to the adjacent-category model, which has no latent
    gap that a person cuts into levels, and so nothing that further levels would share with the ties.

    Args:
        gaps: (N,) float.
        levels: (N,) float in [0, S]: 0 tie, j the j-th strength; between two levels (judgements were averaged) the
            log-probabilities of both are mixed.
        thresholds: (S,) float, ascending; θ_1 = 0 where no pair is a tie.
        targets: (N,) float or one number, q: probability that the chosen response is the better one.

    Returns:
        (N,) float ≤ 0.
    """
    assert gaps.shape == levels.shape
    infinity = thresholds.new_full((1,), float("inf"))
    bounds = torch.cat((-thresholds[:1], thresholds, infinity))
    lower = levels.floor().long()
    share = levels - lower

    def of(category: Tensor) -> Tensor:
        low, high = bounds[category], bounds[category + 1]

        def won_by(gap: Tensor) -> Tensor:
            # σ(a) − σ(b) = σ(a) σ(−b) (1 − e^(b − a)), which loses no digits where both are near 0 or 1.
            return logsigmoid(gap - low) + logsigmoid(high - gap) + torch.log1p(-torch.exp(low - high))

        return targets * won_by(gaps) + (1 - targets) * won_by(-gaps)

    return torch.where(share > 0, (1 - share) * of(lower) + share * of(levels.ceil().long()), of(lower))


def thresholds_of(raw: Tensor, *, ties: bool) -> Tensor:
    """Ascending thresholds (S,) ≥ 0 of unbounded parameters: sums of softplus; the first is 0 where there are no ties.

    Args:
        raw: (S,) float, or (S − 1,) without ties.
        ties: whether the first threshold is fitted.
    """
    steps = torch.nn.functional.softplus(raw).cumsum(0)
    return steps if ties else torch.cat((steps.new_zeros(1), steps))


def first_thresholds(shares: Tensor) -> Tensor:
    """Thresholds (S,) that explain how often each level occurs, were all gaps 0: where fitting starts.

        2 σ(θ_j) − 1 = share of pairs below level j

    Args:
        shares: (S + 1,) float, the share of pairs at each level, ties first; sums to 1.
    """
    below = shares.cumsum(0)[:-1].clamp(0, 0.99)
    return torch.logit((1 + below) / 2)
