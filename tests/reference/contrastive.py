"""Slow float64 oracle of the contrastive losses, written from the papers: one pair at a time."""

import math


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def implicit_reward(beta: float, policy: float, reference: float) -> float:
    """β log(π/ρ), from the probability ratio."""
    return beta * math.log(math.exp(policy) / math.exp(reference))


def dpo(pair: dict[str, float], beta: float, margin: float, alpha: float) -> tuple[float, float]:
    """(loss if chosen is better, loss if rejected is better), as the papers write them."""
    c = implicit_reward(beta, pair["chosen"], pair["reference_chosen"])
    r = implicit_reward(beta, pair["rejected"], pair["reference_rejected"])
    prefers = sigma(c - r - margin + alpha * (pair["chosen_tokens"] - pair["rejected_tokens"]))
    return -math.log(prefers), -math.log(1 - prefers)


def hinge(pair: dict[str, float], beta: float, margin: float, alpha: float) -> tuple[float, float]:
    c = implicit_reward(beta, pair["chosen"], pair["reference_chosen"])
    r = implicit_reward(beta, pair["rejected"], pair["reference_rejected"])
    ahead = c - r - margin + alpha * (pair["chosen_tokens"] - pair["rejected_tokens"])
    return max(0.0, 1 - ahead), max(0.0, 1 + ahead)


def ipo(pair: dict[str, float], beta: float, margin: float, alpha: float) -> tuple[float, float]:
    per_token = [(pair[side] - pair[f"reference_{side}"]) / pair[f"{side}_tokens"] for side in ("chosen", "rejected")]
    ahead = per_token[0] - per_token[1] - margin + alpha * (pair["chosen_tokens"] - pair["rejected_tokens"])
    return (ahead - 1 / (2 * beta)) ** 2, (-ahead - 1 / (2 * beta)) ** 2


def slic(pair: dict[str, float], beta: float, margin: float, alpha: float) -> tuple[float, float]:
    """max(0, δ − log π(c) + log π(r)) / δ with δ = 1/β, when there is no further margin."""
    delta = 1 / beta
    shift = (margin - alpha * (pair["chosen_tokens"] - pair["rejected_tokens"])) * delta
    gap = pair["chosen"] - pair["rejected"]
    return max(0.0, delta + shift - gap) / delta, max(0.0, delta - shift + gap) / delta


def simpo(pair: dict[str, float], beta: float, margin: float, alpha: float) -> tuple[float, float]:
    c, r = (beta / pair[f"{side}_tokens"] * pair[side] for side in ("chosen", "rejected"))
    prefers = sigma(c - r - margin + alpha * (pair["chosen_tokens"] - pair["rejected_tokens"]))
    return -math.log(prefers), -math.log(1 - prefers)


def orpo(pair: dict[str, float], beta: float, margin: float, alpha: float) -> tuple[float, float]:
    """λ = β; the probability of a response is the geometric mean over its tokens."""
    p, q = (math.exp(pair[side]) ** (1 / pair[f"{side}_tokens"]) for side in ("chosen", "rejected"))
    log_ratio = math.log((p / (1 - p)) / (q / (1 - q)))
    prefers = sigma(log_ratio - margin + alpha * (pair["chosen_tokens"] - pair["rejected_tokens"]))
    return -beta * math.log(prefers), -beta * math.log(1 - prefers)


def nothing(pair: dict[str, float], beta: float, margin: float, alpha: float) -> tuple[float, float]:
    """Continued supervised tuning compares nothing."""
    return 0.0, 0.0


ORACLES = {
    "dpo": dpo,
    "hinge": hinge,
    "ipo": ipo,
    "slic": slic,
    "simpo": simpo,
    "orpo": orpo,
    "sft": nothing,
}


def kto(logratio: float, desirable: bool, kl: float, beta: float, weight: float, other: float = 1.0) -> float:
    """λ_y − v(x, y), eqs. 7 and 8."""
    z = max(0.0, kl)
    if desirable:
        return weight - weight * sigma(beta * (logratio - z))
    return other - other * sigma(beta * (z - logratio))
