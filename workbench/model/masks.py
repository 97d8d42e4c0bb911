"""Masks and positions of padded batches. True = counts."""

from collections.abc import Sequence

import torch
from torch import Tensor


def position_ids(attention_mask: Tensor) -> Tensor:
    """Positions of real tokens, whatever side the padding is on.

        position_t = max(Σ_{s ≤ t} mask_s − 1, 0)

    Args:
        attention_mask: (B, T) bool or integer, nonzero on real tokens.

    Returns:
        (B, T) int64; 0 on left padding and in a fully masked row.
    """
    return (attention_mask.long().cumsum(dim=1) - 1).clamp(min=0)


def causal_mask(attention_mask: Tensor) -> Tensor | None:
    """Causal attention mask: each token attends to itself and to the real tokens before it.

    Args:
        attention_mask: (B, T) bool, True on real tokens.

    Returns:
        (B, 1, T, T) bool, True if the query (third axis) attends to the key (last axis); None if all padding is on the
        right, so that a plain causal mask will do.
    """
    if bool((attention_mask[:, :-1] | ~attention_mask[:, 1:]).all()):
        return None
    width = attention_mask.shape[1]
    before = torch.ones(width, width, dtype=torch.bool, device=attention_mask.device).tril()
    itself = torch.eye(width, dtype=torch.bool, device=attention_mask.device)
    return (before & attention_mask[:, None, None, :]) | itself


def response_mask(response_ids: Tensor, eos_ids: int | Sequence[int]) -> Tensor:
    """Real tokens of sampled responses: everything up to and including the first EOS.

    Args:
        response_ids: (B, R) int64, anything after the first EOS is ignored.
        eos_ids: one end-of-sequence token, or several.

    Returns:
        (B, R) bool; each row is a prefix; all True where there is no EOS.
    """
    is_eos = is_end(response_ids, eos_ids).long()
    return (is_eos.cumsum(dim=1) - is_eos) == 0


def ended(response_ids: Tensor, eos_ids: int | Sequence[int], mask: Tensor) -> Tensor:
    """Whether each response contains an EOS among its real tokens: (B,) bool."""
    return (is_end(response_ids, eos_ids) & mask).any(dim=1)


def is_end(ids: Tensor, eos_ids: int | Sequence[int]) -> Tensor:
    """Whether each token id is an end-of-sequence token: bool, in the shape of `ids`."""
    return torch.isin(ids, torch.tensor(eos_ids, device=ids.device))


def last_tokens(attention_mask: Tensor) -> Tensor:
    """The last real token of each right-padded row: (B, T) bool, from a (B, T) mask that is nonzero on real tokens."""
    places = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    return places == attention_mask.long().sum(dim=1, keepdim=True) - 1


def pad_rows(rows: list[list[int]], pad_id: int, side: str = "right") -> tuple[Tensor, Tensor]:
    """Rows of token ids as one padded batch.

    Args:
        rows: N lists of different lengths.
        pad_id: written where there is no token.
        side: `left` or `right`, where the padding goes.

    Returns:
        ids: (N, T) int64. mask: (N, T) bool.
    """
    width = max((len(row) for row in rows), default=0)
    ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.bool)
    for index, row in enumerate(rows):
        start = width - len(row) if side == "left" else 0
        ids[index, start : start + len(row)] = torch.tensor(row, dtype=torch.long)
        mask[index, start : start + len(row)] = True
    return ids, mask
