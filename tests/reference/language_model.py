"""Slow float64 oracles of quantities of a softmax over a vocabulary, one token and one entry at a time."""

import math


def probabilities(state, head, temperature):
    """softmax(W h / T) by its definition; state (D,), head (V, D) as nested lists."""
    logits = [math.fsum(w * h for w, h in zip(row, state, strict=True)) / temperature for row in head]
    top = max(logits)
    weights = [math.exp(x - top) for x in logits]
    total = math.fsum(weights)
    return [w / total for w in weights]


def logprob_and_entropy(state, head, target, temperature):
    """log p[target] and −Σ p log p."""
    p = probabilities(state, head, temperature)
    return math.log(p[target]), -math.fsum(x * math.log(x) for x in p)


def kl_divergence(state, other, head, temperature):
    """Σ p log(p/q)."""
    p, q = probabilities(state, head, temperature), probabilities(other, head, temperature)
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
