"""Scores and log-probabilities of given responses, batched and sorted by length. No gradients.

Shapes: N = rows, R = response tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.model.logprobs import token_kl, token_logprobs
from workbench.model.masks import pad_rows
from workbench.model.roles import Roles


def score_rows(roles: Roles, role: str, rows: Sequence[Sequence[int]], *, batch_size: int) -> Tensor:
    """The reward model's score (N,) float32 of token rows (prompt and response, EOS included), on the CPU."""
    scores = torch.zeros(len(rows))
    for batch, ids, mask in _batches(rows, batch_size, roles):
        scores[batch] = roles.scores(role, ids, mask).cpu()
    return scores


@dataclass(frozen=True)
class ResponseLogprobs:
    """What two roles think of one response: sums over its tokens, in nats."""

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
    rows = [[*prompt, *response] for prompt, response in zip(prompts, responses, strict=True)]
    results: list[ResponseLogprobs | None] = [None] * len(rows)
    for batch, ids, mask in _batches(rows, batch_size, roles):
        selected = _response_positions([len(prompts[i]) for i in batch], [len(rows[i]) for i in batch], ids)
        targets = ids[:, 1:][selected]
        hidden = {}
        for role in (policy, reference):
            with roles.use(role) as forward:
                hidden[role] = forward(ids, mask)[:, :-1][selected]
        ours, _ = token_logprobs(hidden[policy], roles.lm_head, targets, temperature=temperature)
        theirs, _ = token_logprobs(hidden[reference], roles.lm_head, targets, temperature=temperature)
        kl = token_kl(hidden[policy], hidden[reference], roles.lm_head, temperature=temperature)
        owner = selected.nonzero()[:, 0]
        for k, i in enumerate(batch):
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
) -> tuple[float, int]:
    """Sum of −log π over all response tokens, in nats, and their number: perplexity is exp of the ratio."""
    rows = [[*prompt, *response] for prompt, response in zip(prompts, responses, strict=True)]
    total, count = 0.0, 0
    for batch, ids, mask in _batches(rows, batch_size, roles):
        selected = _response_positions([len(prompts[i]) for i in batch], [len(rows[i]) for i in batch], ids)
        with roles.use(role) as forward:
            hidden = forward(ids, mask)[:, :-1][selected]
        logprobs, _ = token_logprobs(hidden, roles.lm_head, ids[:, 1:][selected])
        total -= float(logprobs.double().sum())
        count += len(logprobs)
    return total, count


def _response_positions(prompt_lengths: list[int], row_lengths: list[int], ids: Tensor) -> Tensor:
    """(N, T-1) bool: positions whose next token belongs to the response."""
    t = torch.arange(ids.shape[1] - 1, device=ids.device)
    starts = torch.tensor(prompt_lengths, device=ids.device).unsqueeze(1) - 1
    ends = torch.tensor(row_lengths, device=ids.device).unsqueeze(1) - 1
    return (t >= starts) & (t < ends)


def _batches(rows: Sequence[Sequence[int]], batch_size: int, roles: Roles) -> "list[tuple[list[int], Tensor, Tensor]]":
    """Right-padded batches of rows of similar length: (indices, ids, mask)."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    batches = []
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        ids, mask = pad_rows([list(rows[i]) for i in batch], roles.tokenizer.pad_token_id)
        batches.append((batch, ids.to(roles.device), mask.to(roles.device)))
    return batches
