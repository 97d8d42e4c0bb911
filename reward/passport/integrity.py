"""Checks that an answer gets the same score whatever surrounds it in a batch, and as when it was saved."""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file

from reward.passport.judge import Check, exactly
from workbench.model.heads import Probe
from workbench.model.masks import pad_rows
from workbench.model.precision import SCORE_TOLERANCE
from workbench.model.roles import Roles
from workbench.model.score import pass_tokens

ROWS = 16
"""Pairs whose rows are scored again, at most."""
HEAD_TOLERANCE = 1e-3
"""Largest difference of a weight, over the largest weight."""
PADDING = "largest difference between a row alone and the same row padded, in standard deviations of the scores"
BATCH = "largest difference between rows scored together and one by one, in standard deviations of the scores"
POSITION = "largest difference if chosen and rejected swap places in the batch, in standard deviations of the scores"
RELOAD = "largest difference from the scores recorded when the model was saved, in standard deviations of the scores"
HEAD = "largest difference between the head's weight and the copy in the adapter's file, over its largest weight"


def integrity(roles: Roles, role: str, chosen: Sequence[list[int]], rejected: Sequence[list[int]]) -> list[Check]:
    """Whether padding, batch neighbours and position change the score of a row.

    Args:
        roles: with the reward role and its head.
        role: the reward role.
        chosen, rejected: token rows of held-out pairs; the first ones are scored.
    """
    limit = SCORE_TOLERANCE[roles.dtype]
    number = _pairs_in_a_pass(chosen, rejected, pass_tokens(roles.device))
    first, second = [list(row) for row in chosen[:number]], [list(row) for row in rejected[:number]]
    rows = [*first, *second]
    alone = torch.cat([_scores(roles, role, [row]) for row in rows])
    padded = torch.cat([_scores(roles, role, [row], extra=7 + 5 * n % 11) for n, row in enumerate(rows)])
    together = _scores(roles, role, rows)
    swapped = _scores(roles, role, [*second, *first])
    swapped = torch.cat((swapped[len(second) :], swapped[: len(second)]))  # back in the order of `rows`
    differences = (
        ("padding", padded - alone, PADDING),
        ("batch", together - alone, BATCH),
        ("position", swapped - together, POSITION),
    )
    return [exactly(name, float(d.abs().max()), limit, about, count=len(rows)) for name, d, about in differences]


def _pairs_in_a_pass(chosen: Sequence[list[int]], rejected: Sequence[list[int]], tokens: int) -> int:
    """As many of the first pairs as fit one pass together, at least one and at most `ROWS`."""
    widest, number = 0, 0
    for both in list(zip(chosen, rejected, strict=True))[:ROWS]:
        widest = max(widest, *map(len, both))
        if number and 2 * (number + 1) * widest > tokens:
            break
        number += 1
    return number


def reload_check(roles: Roles, members: dict[str, Probe | None]) -> Check:
    """Each member's stored probe batch is scored as it was when the member was saved.

    Args:
        roles: as loaded from the files.
        members: role → the probe batch stored with its head.
    """
    worst, count = None, 0
    for role, probe in members.items():
        if probe is not None:
            scores = roles.scores(role, probe.ids.to(roles.device), probe.mask.to(roles.device)).cpu()
            difference = float((scores - probe.scores).abs().max())
            worst = difference if worst is None or not difference <= worst else worst  # `not <=` lets a NaN win
            count += len(scores)
    return exactly("reload", worst, SCORE_TOLERANCE[roles.dtype], RELOAD, count=count)


def head_check(roles: Roles, members: dict[str, Path]) -> Check:
    """Whether the head in use is the one that was trained with the adapter; the adapter's file holds a copy of it."""
    worst, count = None, 0
    for role, adapter in members.items():
        tensors = load_file(adapter / "adapter_model.safetensors")
        trained = [tensor for name, tensor in tensors.items() if name.endswith("score.weight")]
        if len(trained) == 1:
            weight = trained[0].float().flatten()
            used = roles.heads[role].weight.detach().float().cpu()
            same = weight.shape == used.shape
            difference = float((weight - used).abs().max() / weight.abs().max()) if same else float("inf")
            worst = difference if worst is None or not difference <= worst else worst  # `not <=` lets a NaN win
            count += 1
    return exactly("head", worst, HEAD_TOLERANCE, HEAD, count=count)


def _scores(roles: Roles, role: str, rows: list[list[int]], *, extra: int = 0) -> torch.Tensor:
    """(N,) scores of rows in one pass, in their order, with `extra` more columns of padding."""
    pad = roles.tokenizer.pad_token_id
    ids, mask = pad_rows(rows, pad)
    if extra:
        ids = torch.cat((ids, torch.full((len(ids), extra), pad)), dim=1)
        mask = torch.cat((mask, torch.zeros((len(mask), extra), dtype=torch.bool)), dim=1)
    return roles.scores(role, ids.to(roles.device), mask.to(roles.device)).cpu()
