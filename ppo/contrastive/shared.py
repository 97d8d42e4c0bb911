"""Both responses of a pair in one row, so that their prompt is read once: 2 (P + R) tokens of a pair become P + 2 R.

    row = prompt without its last token ‖ its last token, chosen response ‖ its last token, rejected response

Each branch attends to the prompt and to itself, at the positions that it would have in a row of its own. The last token
of the prompt is in both branches because it has two next tokens. Source of the layout: Hydragen, Juravsky et al. 2024,
arXiv:2402.05099, shares prefixes in inference; here a mask does it, which keeps the gradient.

Shapes: B = pairs, P = tokens of a prompt, R = tokens of a response, T = tokens of the longest row.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaModel

from workbench.model.cpu.entrance import reason_for_modules

PROMPT, CHOSEN, REJECTED, PADDING = range(4)


def shares_prompts(causal_model: Any, *, recomputes: bool) -> bool:
    """Whether a model takes such rows: a Llama on its modules, with torch's attention, which reads a mask per token.

    Args:
        causal_model: of transformers, with its adapters.
        recomputes: activation checkpointing is on.
    """
    decoder = causal_model.model
    attends = type(decoder) is LlamaModel and decoder.config._attn_implementation == "sdpa"
    return attends and reason_for_modules(decoder, recomputes=recomputes) is not None


def shared_rows(
    prompts: Sequence[Sequence[int]],
    chosen: Sequence[Sequence[int]],
    rejected: Sequence[Sequence[int]],
    pad_id: int,
) -> dict[str, Tensor]:
    """Rows of pairs; every prompt has at least one token.

    Returns:
        `input_ids`, `position_ids`, `sides` (PROMPT to PADDING) and `shift_labels` (the next token, −100 outside the
        responses), (B, T) each, and `attention_mask` (B, 1, T, T) bool.
    """
    columns = [_row(*pair) for pair in zip(prompts, chosen, rejected, strict=True)]
    width = max(len(ids) for ids, *_ in columns)
    fills = (pad_id, 0, PADDING, -100)
    ids, positions, sides, labels = (
        torch.tensor([[*row[part], *[fill] * (width - len(row[part]))] for row in columns])
        for part, fill in enumerate(fills)
    )
    visible = (sides == PROMPT).unsqueeze(1) | (sides.unsqueeze(1) == sides.unsqueeze(2))  # (B, query, key)
    mask = visible.tril().unsqueeze(1)
    return {
        "input_ids": ids,
        "position_ids": positions,
        "sides": sides,
        "shift_labels": labels,
        "attention_mask": mask,
    }


def _row(
    prompt: Sequence[int], chosen: Sequence[int], rejected: Sequence[int]
) -> tuple[list[int], list[int], list[int], list[int]]:
    """Ids, positions, sides and labels of one pair."""
    *first, last = prompt
    ids, positions, sides, labels = first, list(range(len(first))), [PROMPT] * len(first), [-100] * len(first)
    for side, response in ((CHOSEN, chosen), (REJECTED, rejected)):
        branch = [last, *response]
        ids, labels = ids + branch, [*labels, *response, -100]
        positions = [*positions, *range(len(first), len(first) + len(branch))]
        sides = sides + [side] * len(branch)
    return ids, positions, sides, labels
