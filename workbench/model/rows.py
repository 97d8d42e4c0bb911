"""Prompt and response in one row, and the one place where positions are shifted by one.

Shapes: B = batch, T = prompt and response tokens, R = response tokens, D = hidden. Every (B, R) tensor is indexed by
response token: entry t belongs to the state *before* token t, from which token t is predicted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.model.masks import pad_rows

PASS_TOKENS = {"cpu": 1024, "cuda": 16384}
"""Device → tokens of one pass without gradients, padding included, for all that has no size of its own in a phase's
configuration: scores, probes, states, held-out losses. A larger pass is no faster on a CPU, and takes more memory."""


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

    @property
    def predicting(self) -> Tensor:
        """(B, T) bool, True on the tokens from whose states response tokens are predicted, in the order of these."""
        steps = torch.arange(self.ids.shape[1], device=self.ids.device) - (self.prompt_lengths.unsqueeze(1) - 1)
        return (steps >= 0) & (steps < self.response_mask.sum(dim=1, keepdim=True))

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

    def by_length(self, index: Tensor) -> Tensor:
        """The same index (b,), shortest row first; rows of equal length stay in their order."""
        return index[self.mask[index].sum(dim=1).argsort(stable=True)]

    def micro_batches(self, size: int) -> Iterator[tuple[Tensor, "Rows"]]:
        """Batches of rows of similar length: (index (b,), rows)."""
        every = torch.arange(len(self), device=self.ids.device)
        for index in self.by_length(every).split(size):
            yield index, self.select(index)
