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
from workbench.model.cpu import decode
from workbench.model.masks import pad_rows, position_ids
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
        self._cache: decode.Cache | _Cache | None = None

    def step(self, joining: Sequence[Stream] = ()) -> None:
        """One more token for each stream. Those that join read their prompts first; finished ones leave."""
        logits = []
        with self._roles.use(self._role):
            if self._cache is not None:
                tokens = torch.tensor([[stream.ids[-1]] for stream in self.streams], device=self._roles.device)
                logits.append(self._logits(self._cache, tokens))
            if joining:
                logits.append(self._join(joining))
        self.streams += joining
        for stream, token in zip(self.streams, _draw(torch.cat(logits), self.streams), strict=True):
            stream.ids.append(token)
        self._keep([not stream.finished for stream in self.streams])

    def leave(self, stream: Stream) -> None:
        """End a stream as it is."""
        self._keep([other is not stream for other in self.streams])

    def _join(self, joining: Sequence[Stream]) -> Tensor:
        """Read the prompts of new streams; returns the logits (b, V) of their first tokens."""
        roles = self._roles
        ids, mask = pad_rows([stream.prompt for stream in joining], roles.tokenizer.pad_token_id, side="left")
        room = max(stream.most - len(stream.ids) for stream in (*self.streams, *joining))
        dense, new = roles.cpu_kernels, None
        if isinstance(self._cache, decode.Cache):
            new = decode.Cache(self._cache.dense, self._cache.layers, mask, room)
        elif dense is not None and self._cache is None:
            new = decode.Cache(dense, dense.merge(), mask, room)
        cache = new or _Cache(roles, mask.to(roles.device))
        logits = self._logits(cache, ids.to(roles.device))
        if self._cache is not None:
            self._cache.join(cache, room)  # type: ignore[arg-type]  # of one kind: see above
        else:
            self._cache = cache
        return logits

    def _logits(self, cache: "decode.Cache | _Cache", ids: Tensor) -> Tensor:
        """Append tokens (b, T) to a cache; returns the logits (b, V) of the next ones, in float32."""
        states = cache.forward(ids)
        return states.float() @ self._roles.lm_head.float().T if isinstance(cache, decode.Cache) else states.float()

    def _keep(self, kept: list[bool]) -> None:
        if all(kept):
            return
        self.streams = [stream for stream, stays in zip(self.streams, kept, strict=True) if stays]
        if not self.streams:
            self._cache = None
        elif self._cache is not None:
            self._cache.keep(torch.tensor(kept, device=self._roles.device))


class _Cache:
    """`workbench.model.cpu.decode.Cache` for the modules of transformers: any base, any device, any kind of adapter."""

    def __init__(self, roles: Roles, mask: Tensor) -> None:
        self._model = roles.causal_model
        self._kept: Any = roles.virtual_cache(len(mask)) or DynamicCache()
        self.mask = pad(mask, (roles.virtual_tokens, 0), value=True)

    def forward(self, ids: Tensor) -> Tensor:
        """Append the next tokens (b, T) of each row, the prompts first; returns the logits (b, V) of the next."""
        before = self._kept.get_seq_length()
        self.mask = pad(self.mask, (0, before + ids.shape[1] - self.mask.shape[1]), value=True)
        out = self._model(
            input_ids=ids,
            attention_mask=self.mask.long(),
            position_ids=position_ids(self.mask)[:, before:],
            past_key_values=self._kept,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = out.logits[:, -1]
        return logits

    def join(self, other: "_Cache", _room: int) -> None:
        """Append the rows of another cache, padded on the left to the same length."""
        self._trim()
        length = max(self.mask.shape[1], other.mask.shape[1])
        pairs = [
            tuple(
                torch.cat([pad(rows, (0, 0, length - rows.shape[2], 0)) for rows in both])
                for both in ((ours.keys, theirs.keys), (ours.values, theirs.values))
            )
            for ours, theirs in zip(self._kept.layers, other._kept.layers, strict=True)
        ]
        self._kept = DynamicCache(pairs)
        self.mask = torch.cat([pad(mask, (length - mask.shape[1], 0)) for mask in (self.mask, other.mask)])

    def keep(self, rows: Tensor) -> None:
        """Drop all rows that a mask (b,) does not select."""
        self._kept.batch_select_indices(rows)
        self.mask = self.mask[rows]

    def _trim(self) -> None:
        """Drop the leading columns that are padding in every row."""
        unused = int(self.mask.any(dim=0).int().argmax())
        self.mask = self.mask[:, unused:]
        pairs = [(layer.keys[:, :, unused:], layer.values[:, :, unused:]) for layer in self._kept.layers]
        self._kept = DynamicCache(pairs)


@torch.no_grad()
def _draw(logits: Tensor, streams: Sequence[Stream]) -> list[int]:
    """The next token of each stream, from its logits (b, V); the draws of `torch.multinomial` from the same seed."""
    temperatures = torch.tensor([stream.temperature or 1.0 for stream in streams], device=logits.device)
    noise = torch.ones_like(logits)
    for row, stream in zip(noise, streams, strict=True):
        if stream.temperature > 0:  # otherwise the most likely token
            stream.draw_noise(row)
    chosen: list[int] = (torch.softmax(logits / temperatures.unsqueeze(1), dim=-1) / noise).argmax(dim=-1).tolist()
    return chosen
