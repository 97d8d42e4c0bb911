"""Prompt and response in one row, and the one place where positions are shifted by one.

Shapes: B = batch, T = prompt and response tokens, R = response tokens, D = hidden. Every (B, R) tensor is indexed by
response token: entry t belongs to the state *before* token t, from which token t is predicted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.model.masks import pad_rows


@dataclass(frozen=True)
class Rows:
    """Right-padded rows of prompt ⊕ response."""

    ids: Tensor
    """(B, T) int64."""
    mask: Tensor
    """(B, T) bool, True on prompt and response tokens."""
    prompt_lengths: Tensor
    """(B,) int64."""
    response_ids: Tensor
    """(B, R) int64, pad token after the end."""
    response_mask: Tensor
    """(B, R) bool, True on response tokens, EOS included."""

    @classmethod
    def of(
        cls, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], pad_id: int, device: torch.device
    ) -> "Rows":
        """Build rows from B prompts and B responses (EOS included) as lists of token ids."""
        ids, mask = pad_rows([[*p, *r] for p, r in zip(prompts, responses, strict=True)], pad_id)
        response_ids, response_mask = pad_rows([list(r) for r in responses], pad_id)
        lengths = torch.tensor([len(p) for p in prompts], dtype=torch.long)
        return cls(*(x.to(device) for x in (ids, mask, lengths, response_ids, response_mask)))

    def __len__(self) -> int:
        return len(self.ids)

    def predicting(self, states: Tensor) -> Tensor:
        """Of hidden states (B, T, D), those before each response token: (B, R, D); arbitrary on padding."""
        steps = torch.arange(self.response_ids.shape[1], device=states.device)
        positions = (self.prompt_lengths.unsqueeze(1) - 1 + steps).clamp(max=states.shape[1] - 1)
        return states.gather(1, positions.unsqueeze(-1).expand(-1, -1, states.shape[-1]))

    def select(self, index: Tensor) -> "Rows":
        """The rows of an index (b,), trimmed to their own longest row."""
        width = int(self.mask[index].sum(dim=1).max())
        response_width = int(self.response_mask[index].sum(dim=1).max())
        return Rows(
            self.ids[index, :width],
            self.mask[index, :width],
            self.prompt_lengths[index],
            self.response_ids[index, :response_width],
            self.response_mask[index, :response_width],
        )

    def micro_batches(self, size: int) -> Iterator[tuple[Tensor, "Rows"]]:
        """Batches of rows of similar length: (index (b,), rows)."""
        order = self.mask.sum(dim=1).argsort(stable=True)
        for index in order.split(size):
            yield index, self.select(index)
