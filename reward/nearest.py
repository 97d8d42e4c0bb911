"""The labelled pairs that a reward model holds to be most like an answer: cosine of its own last hidden states.

Shapes: N = rows, D = hidden.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.data.records import Preference
from workbench.data.tokenise import encode_prompt, encode_response
from workbench.model.masks import last_tokens, pad_rows
from workbench.model.roles import Roles
from workbench.model.score import batches_by_length, distinct_rows, pass_tokens
from workbench.run.progress import progress


@dataclass(frozen=True)
class Neighbour:
    """A labelled pair, and how like the answer the liker of its two answers is."""

    record: Preference
    similarity: float
    """Cosine, −1 … 1."""
    side: str
    """`chosen` or `rejected`: which answer it is that is alike."""
    scores: tuple[float, float]
    """Of the chosen and of the rejected answer."""


def representations(roles: Roles, role: str, rows: Sequence[Sequence[int]], *, batch_size: int) -> Tensor:
    """(N, D) float32 on the CPU: the role's last hidden state at each row's last token, which its head reads.

    A row that occurs more than once is read once.
    """
    distinct, places = distinct_rows(rows)
    found = torch.zeros(len(distinct), roles.lm_head.shape[1])
    lengths, tokens = [len(row) for row in distinct], pass_tokens(roles.device)
    batches = batches_by_length(lengths, batch_size=batch_size, batch_tokens=tokens)
    for batch in progress(batches, description="reading labelled answers", unit="batch"):
        ids, mask = pad_rows([distinct[i] for i in batch], roles.tokenizer.pad_token_id)
        with roles.use(role) as forward:
            hidden = forward(*(each.to(roles.device) for each in (ids, mask, last_tokens(mask))))
        found[batch] = hidden.float().cpu()
    return found[places]


def cosines(one: Tensor, others: Tensor) -> Tensor:
    """Cosine of one vector with each of several.

        x · y / (|x| |y|), after the mean of the others is taken off both

    Hidden states share a large common part, beside which all would be alike.

    Args:
        one: (D,) float.
        others: (N, D) float.
    Returns:
        (N,) float in [−1, 1]; 0 where a vector is the mean.
    """
    centre = others.mean(dim=0)
    return torch.cosine_similarity((one - centre).unsqueeze(0), others - centre, dim=1)


def nearest_pairs(
    roles: Roles,
    members: Sequence[str],
    row: Sequence[int],
    records: Sequence[Preference],
    *,
    number: int,
    batch_size: int,
) -> list[Neighbour]:
    """The labelled pairs with an answer most like a row of prompt and response, the likest first.

    Several members have their states side by side, and their scores averaged.
    """
    rows = []
    for side in ("chosen_text", "rejected_text"):
        for record in records:
            response = encode_response(roles.tokenizer, record.prompt, getattr(record, side))
            rows.append([*encode_prompt(roles.tokenizer, record.prompt), *response])
    states = [representations(roles, member, [row, *rows], batch_size=batch_size) for member in members]
    together = torch.cat(states, dim=1)
    alike = cosines(together[0], together[1:]).view(2, len(records))
    heads = [roles.heads[member] for member in members]
    each = [head(own[1:].to(head.weight.device)).detach().cpu() for head, own in zip(heads, states, strict=True)]
    scores = torch.stack(each).mean(dim=0).view(2, len(records))
    best = alike.max(dim=0).values
    order = best.argsort(descending=True, stable=True)[:number].tolist()
    return [
        Neighbour(
            records[index],
            float(best[index]),
            "chosen" if alike[0, index] >= alike[1, index] else "rejected",
            (float(scores[0, index]), float(scores[1, index])),
        )
        for index in order
    ]
