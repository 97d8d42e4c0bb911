"""Responses that are written token by token for readers who wait: streams of one role share each forward pass.

Streams join and leave a running batch between two tokens (continuous batching: Yu et al. 2022, "Orca"), and each draws
with a generator of its own, so a response does not depend on its neighbours. The distribution is that of
`workbench.model.generate`: the pure softmax at a temperature. Transformers has continuous batching too, but with one
adapter for all requests and without a seed per request. Shapes: b = streams, P = prompt tokens, V = vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache

from workbench.data.template import end_ids
from workbench.data.tokenise import decode_response
from workbench.model.cpu.decode import Slots
from workbench.model.masks import pad_rows, position_ids
from workbench.model.precision import COLDEST
from workbench.model.roles import Roles, check_row

_UNFINISHED = "\ufffd"
"""How a tokenizer decodes the first bytes of a character whose last bytes are in the next token."""


class Stream:
    """A response that is being written."""

    def __init__(
        self, roles: Roles, role: str, prompt: Sequence[int], *, max_new_tokens: int, temperature: float, seed: int
    ) -> None:
        """Nothing is computed yet.

        Args:
            roles: the base with its adapters.
            role: whose response.
            prompt: P token ids, BOS included.
            max_new_tokens: tokens of the response, at most.
            temperature: of the softmax; 0 takes the most likely token.
            seed: of the draws.

        Raises:
            WorkbenchError: prompt and response do not fit into the base's positions.
        """
        check_row(len(prompt) + max_new_tokens, roles.positions)
        self.role, self.prompt, self.temperature, self.most = role, list(prompt), temperature, max_new_tokens
        self._generator = torch.Generator(roles.device).manual_seed(seed)
        self._tokenizer, self._ends = roles.tokenizer, end_ids(roles.tokenizer)
        self.ids: list[int] = []
        """Response token ids so far, EOS included."""

    @property
    def ended(self) -> bool:
        """Whether the model has ended its response."""
        return bool(self.ids) and self.ids[-1] in self._ends

    @property
    def finished(self) -> bool:
        """Whether no token follows: the response has ended, or has its largest number of tokens."""
        return self.ended or len(self.ids) >= self.most

    def text(self) -> str:
        """The response so far; until it is finished, without a character that is still incomplete."""
        text = decode_response(self._tokenizer, self.ids)
        return text if self.finished else text.rstrip(_UNFINISHED)

    def draw_noise(self, noise: Tensor) -> None:
        """Fill (V,) with the exponential noise of the next draw."""
        noise.exponential_(generator=self._generator)


class Batch:
    """The streams of one role that are being written; empty at first."""

    def __init__(self, roles: Roles, role: str) -> None:
        self._roles, self._role = roles, role
        self.streams: list[Stream] = []
        self._cache: Slots | _Cache | None = None

    def step(self, joining: Sequence[Stream] = ()) -> None:
        """One more token for each stream. Those that join read their prompts first; finished ones leave."""
        states, device = list[Tensor](), self._roles.device
        with self._roles.use(self._role):
            if self._cache is None:
                dense = self._roles.cpu_kernels
                self._cache = _Cache(self._roles) if dense is None else Slots(dense)
            if self.streams:
                states.append(
                    self._cache.forward(torch.tensor([stream.ids[-1:] for stream in self.streams]).to(device))
                )
            if joining:
                pad_id = self._roles.tokenizer.pad_token_id
                ids, mask = pad_rows([stream.prompt for stream in joining], pad_id, side="left")
                states.append(self._cache.join(ids.to(device), mask.to(device)))
            logits = torch.cat(states).float()
            if isinstance(self._cache, Slots):
                logits = logits @ self._roles.lm_head.float().T
        self.streams += joining
        for stream, token in zip(self.streams, _draw(logits, self.streams), strict=True):
            stream.ids.append(token)
        self._keep([not stream.finished for stream in self.streams])

    def leave(self, stream: Stream) -> None:
        """End a stream as it is."""
        self._keep([other is not stream for other in self.streams])

    def _keep(self, kept: Sequence[bool]) -> None:
        """Drop streams; the last ones take their places, so that few rows move."""
        if all(kept):
            return
        order = list(range(len(kept)))
        for index in reversed(range(len(kept))):
            if not kept[index]:
                order[index] = order[-1]
                order.pop()
        self.streams = [self.streams[index] for index in order]
        if not order:
            self._cache = None
        elif self._cache is not None:
            self._cache.take(order)


class _Cache:
    """`workbench.model.cpu.decode.Slots` for the modules of transformers: any base, any device, any kind of adapter."""

    def __init__(self, roles: Roles) -> None:
        self._roles, self._model = roles, roles.causal_model
        self._kept: Any = None
        self._mask = torch.zeros(0, 0, dtype=torch.bool, device=roles.device)

    def forward(self, ids: Tensor) -> Tensor:
        """Append the next token (b, 1) of each row; returns the logits (b, V) of the one after it."""
        self._mask = pad(self._mask, (0, 1), value=True)
        return self._read(ids, self._mask, self._kept)

    def join(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Append rows with left-padded prompts (n, P); returns the logits (n, V) of the tokens after them."""
        kept = self._roles.virtual_cache(len(mask)) or DynamicCache()
        mask = pad(mask, (self._roles.virtual_tokens, 0), value=True)
        logits = self._read(ids, mask, kept)
        if self._kept is not None:
            mask, kept = self._joined(mask, kept)
        self._mask, self._kept = mask, kept
        return logits

    def take(self, order: Sequence[int]) -> None:
        """Keep the rows `order`, in this order."""
        rows = torch.tensor(order, device=self._mask.device)
        self._kept.batch_select_indices(rows)
        self._mask = self._mask[rows]

    def _read(self, ids: Tensor, mask: Tensor, kept: Any) -> Tensor:
        out = self._model(
            input_ids=ids,
            attention_mask=mask.long(),
            position_ids=position_ids(mask)[:, kept.get_seq_length() :],
            past_key_values=kept,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = out.logits[:, -1]
        return logits

    def _joined(self, mask: Tensor, kept: Any) -> tuple[Tensor, DynamicCache]:
        """All rows, those of `kept` behind the others, padded on the left to the same length."""
        unused = int(self._mask.any(dim=0).int().argmax())  # leading columns that are padding in every row
        masks = self._mask[:, unused:], mask
        length = max(part.shape[1] for part in masks)
        pairs = [
            tuple(
                torch.cat([pad(rows, (0, 0, length - rows.shape[2], 0)) for rows in both])
                for both in (
                    (ours.keys[:, :, unused:], theirs.keys),
                    (ours.values[:, :, unused:], theirs.values),
                )
            )
            for ours, theirs in zip(self._kept.layers, kept.layers, strict=True)
        ]
        return torch.cat([pad(part, (length - part.shape[1], 0)) for part in masks]), DynamicCache(pairs)


@torch.no_grad()
def _draw(logits: Tensor, streams: Sequence[Stream]) -> list[int]:
    """The next token of each stream, from its logits (b, V); the draws of `torch.multinomial` from the same seed."""
    warm = [max(stream.temperature, COLDEST) if stream.temperature > 0 else 1.0 for stream in streams]
    temperatures = torch.tensor(warm, device=logits.device)
    noise = torch.ones_like(logits)
    for row, stream in zip(noise, streams, strict=True):
        if stream.temperature > 0:  # otherwise the most likely token
            stream.draw_noise(row)
    chosen: list[int] = (torch.softmax(logits / temperatures.unsqueeze(1), dim=-1) / noise).argmax(dim=-1).tolist()
    return chosen
