"""What a reward model is measured by on held-out pairs."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from reward.loss import bradley_terry_log_likelihood
from workbench.evaluate.metrics import accuracy, expected_calibration_error
from workbench.model.roles import Roles
from workbench.model.score import score_rows


def score_pairs(roles: Roles, role: str, rows: Sequence[dict[str, Any]], *, batch_size: int) -> tuple[Tensor, Tensor]:
    """Scores of chosen and of rejected responses, (N,) float32 each.

    Args:
        roles: the base with the reward adapter and its head.
        role: the reward role.
        rows: with chosen_ids and rejected_ids.
        batch_size: rows in one forward pass.
    """
    flat = [row["chosen_ids"] for row in rows] + [row["rejected_ids"] for row in rows]
    scores = score_rows(roles, role, flat, batch_size=batch_size)
    return scores[: len(rows)], scores[len(rows) :]


def heldout_metrics(chosen: Tensor, rejected: Tensor, raw_gain: float) -> dict[str, float]:
    """Loss, accuracy and calibration on held-out pairs.

    Args:
        chosen: (N,) normalised scores. rejected: (N,) likewise.
        raw_gain: normalised score per raw score: Bradley-Terry probabilities are of raw scores.
    """
    gap = (chosen - rejected).double() / raw_gain
    return {
        "heldout/loss": -float(bradley_terry_log_likelihood(gap).mean()),
        "heldout/accuracy": accuracy(gap.numpy()),
        "heldout/ece": expected_calibration_error(gap.numpy()),
        "heldout/margin": float(gap.mean()),
    }


def probe_rows(rows: Sequence[dict[str, Any]], number: int = 8) -> list[list[int]]:
    """A few token rows, chosen and rejected, whose scores are stored with the head."""
    return [row[key] for row in list(rows)[:number] for key in ("chosen_ids", "rejected_ids")]


def check_same_scores(trained: Tensor, loaded: Tensor) -> None:
    """The scores of the trained model and of the same adapter and head loaded as a role are the same.

    Raises:
        RuntimeError: they differ: the head was dropped, or the adapter was saved incompletely.
    """
    worst = float((trained - loaded).abs().max())
    tolerance = 1e-3 if trained.dtype == torch.float32 else 0.15
    if not worst <= tolerance * max(1.0, float(trained.abs().max())):
        raise RuntimeError(f"the saved reward model scores differently than the trained one, by up to {worst:.3g}")
