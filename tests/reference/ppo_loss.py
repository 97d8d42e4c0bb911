"""Slow float64 oracles of PPO's losses, by the cases of the papers instead of max and clip."""

import math


def policy_loss_by_cases(new, old, advantages, lengths, clip_range):
    """Schulman et al. 2017, figure 1: per token L = A·min(ρ, 1+ε) for A > 0 and A·max(ρ, 1−ε) for A < 0.

    Returns the loss −mean L over real tokens, and its gradient d loss / d new (one list a row).
    """
    count = sum(lengths)
    loss, gradient = 0.0, []
    for row, length in enumerate(lengths):
        slopes = []
        for t in range(length):
            advantage = advantages[row][t]
            ratio = math.exp(new[row][t]) / math.exp(old[row][t])
            beyond = ratio > 1 + clip_range if advantage > 0 else ratio < 1 - clip_range
            bound = 1 + clip_range if advantage > 0 else 1 - clip_range
            loss -= advantage * (bound if beyond else ratio) / count
            slopes.append(0.0 if beyond else -advantage * ratio / count)
        gradient.append(slopes)
    return loss, gradient


def value_loss_by_cases(new, old, targets, lengths, clip_range):
    """½ mean of the larger of two squared errors: of the new value, and of the new value kept within ±clip of the old.

    Returns the loss and the number of tokens where the limited value is the worse one.
    """
    count, total, clipped = sum(lengths), 0.0, 0
    for row, length in enumerate(lengths):
        for t in range(length):
            value, before, target = new[row][t], old[row][t], targets[row][t]
            limited = min(max(value, before - clip_range), before + clip_range)
            if abs(limited - target) > abs(value - target):
                clipped += 1
                total += (limited - target) ** 2
            else:
                total += (value - target) ** 2
    return total / 2 / count, clipped
