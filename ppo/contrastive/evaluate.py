"""What a contrastive policy is measured by on held-out pairs: implicit rewards, each pair counted once."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench.evaluate.metrics import correctness
from workbench.evaluate.statistics import Floats, share_interval
from workbench.model.roles import Roles
from workbench.model.score import response_nll


def evaluate_pairs(
    roles: Roles,
    rows: Sequence[dict[str, Any]],
    groups: Sequence[str],
    *,
    method: str,
    beta: float,
    label_smoothing: float,
    sft_coef: float,
    batch_size: int,
) -> dict[str, float]:
    """`heldout/…`: loss, accuracy with its interval, and margin over N held-out pairs.

    Args:
        roles: with the policy as `default`, and for dpo its reference as `ref`.
        rows: N pairs with prompt_ids, chosen_ids and rejected_ids.
        groups: (N,) prompts, over which the interval of the accuracy is computed.
        method: dpo or slic.
        beta, label_smoothing, sft_coef: of the loss.
        batch_size: rows in one forward pass.
    """
    prompts = [row["prompt_ids"] for row in rows]
    logprobs, chosen_tokens, chosen_nats = [], 0.0, 0.0
    for side in ("chosen_ids", "rejected_ids"):
        responses = [row[side] for row in rows]
        nats, tokens = response_nll(roles, "default", prompts, responses, batch_size=batch_size)
        if side == "chosen_ids":
            chosen_nats, chosen_tokens = float(nats.sum()), float(tokens.sum())
        if method == "dpo":
            nats = nats - response_nll(roles, "ref", prompts, responses, batch_size=batch_size)[0]
        logprobs.append(-nats.numpy())
    margins = beta * (logprobs[0] - logprobs[1])
    losses = pair_losses(margins, method=method, label_smoothing=label_smoothing)
    right = share_interval(correctness(margins), groups)
    return {
        "heldout/loss": float(losses.mean()) + sft_coef * chosen_nats / chosen_tokens,
        "heldout/accuracy": right.mean,
        "heldout/accuracy_low": right.low,
        "heldout/accuracy_high": right.high,
        "heldout/margin": float(margins.mean()),
        "heldout/pairs": right.count,
    }


def pair_losses(margins: Floats, *, method: str, label_smoothing: float) -> Floats:
    """The preference part of the loss of each pair, (N,), from its margin h (implicit rewards, β included).

        dpo: −(1 − ε) log σ(h) − ε log σ(−h)      slic: max(0, 1 − h)

    Source: Mitchell 2023, eq. 3 (cDPO); Zhao et al. 2023, arXiv:2305.10425, eq. 4, scaled by β = 1/δ.
    """
    if method == "slic":
        return np.maximum(0.0, 1.0 - margins)
    wrong: Floats = np.logaddexp(0.0, margins)
    right: Floats = np.logaddexp(0.0, -margins)
    return (1 - label_smoothing) * right + label_smoothing * wrong
