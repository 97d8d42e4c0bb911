"""Scores and log-probabilities of given responses, batched and sorted by length. No gradients.

Shapes: N = rows, R = response tokens.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.model.logprobs import token_kl, token_logprobs
from workbench.model.masks import pad_rows
from workbench.model.roles import Roles
from workbench.model.rows import PASS_TOKENS, Rows


def pass_tokens(device: torch.device) -> int:
    """Tokens of one pass without gradients on this device, padding included."""
    return PASS_TOKENS[device.type]


def batches_by_length(lengths: Sequence[int], *, batch_size: int, batch_tokens: int) -> list[list[int]]:
    """Batches of rows of similar length: indices, the shortest rows first.

    Args:
        lengths: (N,) tokens of each row.
        batch_size: rows of a batch, at most.
        batch_tokens: tokens of a batch, padding included, at most; a longer row is a batch of its own.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        grown = len(batches[-1]) + 1 if batches else 0
        if not batches or grown > batch_size or grown * lengths[index] > batch_tokens:
            batches.append([])
        batches[-1].append(index)
    return batches


def distinct_rows(rows: Sequence[Sequence[int]]) -> tuple[list[list[int]], list[int]]:
    """The distinct rows (M,), in the order of their first occurrence, and where among them each of the N rows is."""
    places = {row: place for place, row in enumerate(dict.fromkeys(map(tuple, rows)))}
    return [list(row) for row in places], [places[tuple(row)] for row in rows]


def score_rows(
    roles: Roles, role: str, rows: Sequence[Sequence[int]], *, batch_size: int, batch_tokens: int | None = None
) -> Tensor:
    """The reward model's score (N,) float32 of token rows (prompt and response, EOS included), on the CPU.

    A row that occurs more than once, as the answers of one prompt do in all its pairs, is scored once.

    Args:
        roles: with the reward role and its head.
        role: the reward role.
        rows: N lists of token ids.
        batch_size: rows in one pass, at most.
        batch_tokens: tokens in one pass, padding included, at most; None: `pass_tokens` of the device.
    """
    if not rows:
        return torch.zeros(0)
    scores, places = _of_distinct(roles, roles.scores, role, rows, batch_size=batch_size, batch_tokens=batch_tokens)
    return scores[places]


def feature_rows(roles: Roles, role: str, rows: Sequence[Sequence[int]], *, batch_size: int) -> Tensor:
    """The hidden states (N, D) float32 that the scores of token rows are read from, on the CPU."""
    features, places = _of_distinct(roles, roles.features, role, rows, batch_size=batch_size, batch_tokens=None)
    return features.float()[places]


def _of_distinct(
    roles: Roles,
    read: Callable[[str, Tensor, Tensor], Tensor],
    role: str,
    rows: Sequence[Sequence[int]],
    *,
    batch_size: int,
    batch_tokens: int | None,
) -> tuple[Tensor, list[int]]:
    """What is read from each distinct row (M, …), and where among them each of the N rows is."""
    distinct, places = distinct_rows(rows)
    found: list[Tensor | None] = [None] * len(distinct)
    lengths = [len(row) for row in distinct]
    batch_tokens = batch_tokens or pass_tokens(roles.device)
    for batch in batches_by_length(lengths, batch_size=batch_size, batch_tokens=batch_tokens):
        ids, mask = pad_rows([distinct[i] for i in batch], roles.tokenizer.pad_token_id)
        for index, value in zip(batch, read(role, ids.to(roles.device), mask.to(roles.device)).cpu(), strict=True):
            found[index] = value
    return torch.stack([value for value in found if value is not None]), places


@dataclass(frozen=True)
class ResponseLogprobs:
    """Log-probabilities of one response under two roles: sums over its tokens, in nats."""

    policy: float
    reference: float
    kl_exact: float
    """Σ over the response's tokens of the full-vocabulary KL(policy ‖ reference)."""
    tokens: int


def compare_roles(
    roles: Roles,
    policy: str,
    reference: str,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    *,
    temperature: float = 1.0,
    batch_size: int = 64,
) -> list[ResponseLogprobs]:
    """Log-probabilities of responses under two roles, and the exact KL between them along each response."""
    rows = Rows.of(prompts, responses, roles.tokenizer.pad_token_id, roles.device)
    results: list[ResponseLogprobs | None] = [None] * len(rows)
    for index, batch in _passes(rows, batch_size):
        real = batch.response_mask
        targets = batch.response_ids[real]
        hidden = {}
        for role in (policy, reference):
            with roles.use(role) as forward:
                hidden[role] = forward(batch.ids, batch.mask, batch.predicting)
        ours, _ = token_logprobs(hidden[policy], roles.lm_head, targets, temperature=temperature)
        theirs, _ = token_logprobs(hidden[reference], roles.lm_head, targets, temperature=temperature)
        kl = token_kl(hidden[policy], hidden[reference], roles.lm_head, temperature=temperature)
        owner = real.nonzero()[:, 0]
        for k, i in enumerate(index.tolist()):
            mine = owner == k
            results[i] = ResponseLogprobs(
                float(ours[mine].sum()), float(theirs[mine].sum()), float(kl[mine].sum()), int(mine.sum())
            )
    return [result for result in results if result is not None]


def response_nll(
    roles: Roles,
    role: str,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    *,
    batch_size: int = 64,
) -> tuple[Tensor, Tensor]:
    """−log π of each response, (N,) float64 nats, and its tokens (N,): perplexity is exp of the ratio of their sums."""
    rows = Rows.of(prompts, responses, roles.tokenizer.pad_token_id, roles.device)
    nats = torch.zeros(len(rows), dtype=torch.float64)
    for index, batch in _passes(rows, batch_size):
        real = batch.response_mask
        with roles.use(role) as forward:
            hidden = forward(batch.ids, batch.mask, batch.predicting)
        logprobs, _ = token_logprobs(hidden, roles.lm_head, batch.response_ids[real])
        nats[index] = torch.zeros(len(batch), dtype=torch.float64).index_add_(
            0, real.nonzero()[:, 0].cpu(), -logprobs.double().cpu()
        )
    return nats, rows.response_mask.sum(dim=1).cpu()


def _passes(rows: Rows, batch_size: int) -> Iterator[tuple[Tensor, Rows]]:
    """Batches of rows of similar length, within the device's tokens: (index (b,), rows)."""
    device = rows.ids.device
    lengths = rows.mask.sum(dim=1).tolist()
    for batch in batches_by_length(lengths, batch_size=batch_size, batch_tokens=pass_tokens(device)):
        index = torch.tensor(batch, device=device)
        yield index, rows.select(index)
