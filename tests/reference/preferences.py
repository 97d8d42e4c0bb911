"""Slow float64 oracles of losses on preference pairs, from the papers' formulas, one pair at a time."""

import math


def log_sigmoid(x):
    """log(1 / (1 + e^−x)) without overflow."""
    return -math.log1p(math.exp(-x)) if x >= 0 else x - math.log1p(math.exp(x))


def bradley_terry_by_definition(chosen, rejected):
    """−mean log P(chosen wins), P = e^c / (e^c + e^r)."""
    return -math.fsum(log_sigmoid(c - r) for c, r in zip(chosen, rejected, strict=True)) / len(chosen)


def soft_by_definition(gap, target):
    """−H(q, P), the cross-entropy of a soft label and P = 1 / (1 + e^−gap), over both outcomes."""
    return sum(share * log_sigmoid(side) for share, side in ((target, gap), (1 - target, -gap)))


def ordinal_by_definition(gap, level, thresholds):
    """log P(level) of a latent gap + logistic noise cut at ±thresholds; between two levels the mean of both."""

    def below(x):
        """P(gap + noise < x), the logistic distribution function."""
        return 1 / (1 + math.exp(gap - x))

    def of(category):
        if category == 0:
            return math.log(below(thresholds[0]) - below(-thresholds[0]))
        upper = below(thresholds[category]) if category < len(thresholds) else 1.0
        return math.log(upper - below(thresholds[category - 1]))

    level = float(level)
    lower, share = int(level), level - int(level)
    return of(lower) if share == 0 else (1 - share) * of(lower) + share * of(lower + 1)


def dpo_by_definition(pairs, beta, label_smoothing, sft_coef, chosen_nll):
    """Rafailov et al. 2023, eq. 7; pairs of (policy_chosen, policy_rejected, reference_chosen, reference_rejected).

    Each label is wrong with probability label_smoothing (Mitchell 2023, cDPO, eq. 3); plus sft_coef times the chosen
    NLL (Pang et al. 2024, arXiv:2404.19733, eq. 1).
    """
    gaps = [beta * ((pc - rc) - (pr - rr)) for pc, pr, rc, rr in pairs]
    return sft_coef * chosen_nll - math.fsum(soft_by_definition(gap, 1 - label_smoothing) for gap in gaps) / len(gaps)


def slic_by_definition(pairs, beta, sft_coef, chosen_nll):
    """Zhao et al. 2023, eq. 4: mean of max(0, 1 − β(log π(c) − log π(r))), plus sft_coef times the chosen NLL."""
    hinge = math.fsum(max(0.0, 1 - beta * (c - r)) for c, r in pairs) / len(pairs)
    return hinge + sft_coef * chosen_nll
