"""Held-out metrics of a reward model, and the check that its saved form scores the same."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from reward.loss import bradley_terry_log_likelihood
from workbench.evaluate.metrics import correctness, expected_calibration_error
from workbench.evaluate.statistics import share_interval
from workbench.model.precision import REPEATED_TOLERANCE
from workbench.model.roles import Roles
from workbench.model.rows import PASS_TOKENS
from workbench.model.score import score_rows
from workbench.run.errors import WorkbenchError


def score_pairs(roles: Roles, role: str, rows: Sequence[dict[str, Any]], *, batch_size: int) -> tuple[Tensor, Tensor]:
    """Scores of chosen and of rejected responses, (N,) float32 each.

    Args:
        roles: the base with the reward adapter and its head.
        role: the reward role.
        rows: with chosen_ids and rejected_ids.
        batch_size: rows per forward pass.
    """
    flat = [row["chosen_ids"] for row in rows] + [row["rejected_ids"] for row in rows]
    scores = score_rows(roles, role, flat, batch_size=batch_size)
    return scores[: len(rows)], scores[len(rows) :]


def heldout_metrics(chosen: Tensor, rejected: Tensor, raw_gain: float, groups: Sequence[str]) -> dict[str, float]:
    """Loss, accuracy and calibration on held-out pairs.

    Args:
        chosen: (N,) normalised scores. rejected: (N,) likewise.
        raw_gain: normalised score per raw score; Bradley-Terry probabilities come from raw scores.
        groups: (N,) prompts; the interval of the accuracy is over them.
    """
    gap = (chosen - rejected).double() / raw_gain
    right = share_interval(correctness(gap.numpy()), groups)
    return {
        "heldout/loss": -float(bradley_terry_log_likelihood(gap).mean()),
        "heldout/accuracy": right.mean,
        "heldout/accuracy_low": right.low,
        "heldout/accuracy_high": right.high,
        "heldout/pairs": right.count,
        "heldout/ece": expected_calibration_error(gap.numpy()),
        "heldout/margin": float(gap.mean()),
    }


def probe_rows(rows: Sequence[dict[str, Any]], number: int = 8) -> list[list[int]]:
    """The probe batch whose scores are stored with the head: a few chosen and rejected rows that fit in one pass."""
    probe: list[list[int]] = []
    for row in list(rows)[:number]:
        longer = [*probe, row["chosen_ids"], row["rejected_ids"]]
        if probe and len(longer) * max(map(len, longer)) > PASS_TOKENS["cuda"]:
            break
        probe = longer
    return probe


def check_same_scores(trained: Tensor, loaded: Tensor, *, dtype: torch.dtype, place: object) -> None:
    """Check that the saved adapter and head, loaded as a role, score a batch as the trained model does.

    Args:
        trained: (N,) float32, scores of the model in the trainer.
        loaded: (N,) float32, scores of the role, from a batch of the same shape.
        dtype: of the forward pass.
        place: what an error names.

    Raises:
        WorkbenchError: they differ: the head was dropped, or the adapter was saved incompletely.
    """
    worst = float((trained - loaded).abs().max())
    limit = REPEATED_TOLERANCE[dtype] * max(1.0, float(trained.abs().max()))
    if not worst <= limit:
        raise WorkbenchError(
            place,
            f"the saved reward model scores differently than the trained one, by up to {worst:.3g}",
            expected=f"differences up to {limit:.3g}",
            remedy="check that nothing else writes into this folder, then run it again with --resume",
        )
