"""Sampling with the CPU kernels: keys and values stay in place, rows that have ended are dropped.

Each core samples rows of its own. A draw depends on the seed and on a row's index in the batch, not on the number of
cores, and equals what transformers draws from the same seed. Shapes: B = batch, b = rows of a core, T = tokens,
R = response tokens, V = vocabulary, D = hidden, H = query heads, H_kv = key and value heads, d = head size.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.model.cpu.blocks import cores, on_each_core
from workbench.model.cpu.dense import Attend, Dense, MergedLinears
from workbench.model.masks import causal_mask, is_end, pad_rows, position_ids
from workbench.model.precision import COLDEST

COLUMNS = 64
"""Slots grow by so many tokens at a time."""


def decode(
    dense: Dense,
    lm_head: Tensor,
    prompts: Sequence[Sequence[int]],
    *,
    eos_ids: Sequence[int],
    pad_id: int,
    max_new_tokens: int,
    temperature: float,
    seed: int,
) -> Tensor:
    """Sample a response to each prompt from the active role, from the pure softmax.

    Args:
        dense: the model's kernels.
        lm_head: (V, D).
        prompts: B lists of token ids.
        eos_ids: tokens that end a response.
        pad_id: pad token of the tokenizer.
        max_new_tokens: R at most.
        temperature: of the softmax, > 0.
        seed: of the draws.

    Returns:
        (B, R) int64; tokens after the first of `eos_ids` have no meaning.
    """
    layers = dense.merge()
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    responses = torch.full((len(prompts), max_new_tokens), pad_id)

    @torch.no_grad()
    def answer(indices: list[int]) -> int:
        """Fill in the responses to some prompts; returns the length of the longest."""
        generator = torch.Generator().manual_seed(seed)
        ids, mask = pad_rows([list(prompts[row]) for row in indices], pad_id, side="left")
        cache, rows = Cache(dense, layers, mask, max_new_tokens), torch.tensor(indices)
        ended = torch.zeros(len(indices), dtype=torch.bool)
        for step in range(max_new_tokens):
            logits = cache.forward(ids).float() @ lm_head.float().T  # (b, V)
            # Noise for all B prompts, as transformers draws it; each core uses its own rows of the same numbers.
            noise = torch.empty(len(prompts), len(lm_head)).exponential_(generator=generator)
            tokens = (torch.softmax(logits / max(temperature, COLDEST), dim=-1) / noise[rows]).argmax(dim=-1)
            responses[rows, step] = tokens
            ended = ended | is_end(tokens, eos_ids)
            if bool(ended.all()):
                return step + 1
            if 4 * int(ended.sum()) >= len(ended):  # not at every end: dropping rows copies the others
                cache.keep(~ended)
                tokens, rows, ended = tokens[~ended], rows[~ended], ended[~ended]
            ids = tokens.unsqueeze(1)
        return max_new_tokens

    parts = min(cores(), len(order))
    return responses[:, : max(on_each_core(answer, [order[part::parts] for part in range(parts)]))]


class Cache:
    """Keys and values of b left-padded rows in every layer, with room for the tokens to come.

    Args:
        dense: the model's kernels.
        layers: merged.
        mask: (b, T) bool, True on the tokens of the prompts.
        room: tokens that may follow.
    """

    def __init__(self, dense: Dense, layers: list[tuple[MergedLinears, ...]], mask: Tensor, room: int) -> None:
        self.dense, self.layers = dense, layers
        self.mask = torch.cat([mask, mask.new_ones(len(mask), room)], dim=1)
        self.length = 0
        self.keys, self.values = list[Tensor](), list[Tensor]()
        """One per layer, (b, H_kv, T + room, d)."""

    def forward(self, ids: Tensor) -> Tensor:
        """Append the next tokens (b, T) of each row, the prompts first; returns the last one's final state (b, D)."""
        before, self.length = self.length, self.length + ids.shape[1]
        positions = position_ids(self.mask[:, : self.length])[:, before:]
        last = (torch.arange(ids.shape[1]) == ids.shape[1] - 1).expand(ids.shape)
        attend = self._attend_to_prompts() if before == 0 else self._attend_to_all(before)
        return self.dense.states(self.layers, self.dense.decoder.embed_tokens(ids), positions, attend, last)

    def _attend_to_prompts(self) -> Attend:
        visible = causal_mask(self.mask[:, : self.length])

        def attend(_: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            for cache, new in ((self.keys, k), (self.values, v)):
                cache.append(new.new_empty(*new.shape[:2], self.mask.shape[1], new.shape[3]))
                cache[-1][:, :, : self.length] = new
            return self.dense.attention(q, k, v, visible)

        return attend

    def _attend_to_all(self, before: int) -> Attend:
        kv_heads = self.keys[0].shape[1]
        hidden = torch.zeros(self.mask.shape).masked_fill_(~self.mask, -torch.inf)[:, : self.length]
        hidden = hidden.repeat_interleave(kv_heads, dim=0).unsqueeze(1)  # (b·H_kv, 1, T): −∞ on padding

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys, values = self.keys[layer], self.values[layer]
            keys[:, :, before : self.length], values[:, :, before : self.length] = k, v
            keys, values = (kept[:, :, : self.length].flatten(0, 1) for kept in (keys, values))  # (b·H_kv, T, d)
            return attention_of_one(q, keys, values, hidden)

        return attend

    def keep(self, rows: Tensor) -> None:
        """Drop all rows that a mask (b,) does not select."""
        self.mask = self.mask[rows]
        self.keys, self.values = ([kept[rows] for kept in cache] for cache in (self.keys, self.values))


class Slots:
    """Keys and values of rows that come and go between two tokens (b of them now), for `workbench.model.stream`.

    Each row begins at column 0 of its slot, so nothing moves when others join, and at most one row when one leaves.

    Args:
        dense: the model's kernels; the active role is merged.
    """

    def __init__(self, dense: Dense) -> None:
        self.dense, self.layers = dense, dense.merge()
        self.lengths = torch.zeros(0, dtype=torch.long)
        """(b,) tokens of each row."""
        heads, size = dense.heads[1], dense.decoder.layers[0].self_attn.head_dim
        dtype = dense.decoder.embed_tokens.weight.dtype
        self.kept = [torch.zeros(0, heads, 0, size, dtype=dtype) for _ in range(2 * len(self.layers))]
        """Keys, then values, of each layer: (slots, H_kv, columns, d)."""

    def join(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Append rows with left-padded prompts (n, P); returns the final states (n, D) of their last tokens."""
        read, first, sizes = Cache(self.dense, self.layers, mask, 0), len(self.lengths), mask.sum(dim=1)
        states = read.forward(ids)
        self.lengths = torch.cat([self.lengths, sizes])
        self._reserve()
        for kept, new in zip(self.kept, (*read.keys, *read.values), strict=True):
            for row, size in enumerate(sizes.tolist()):
                kept[first + row, :, :size] = new[row, :, new.shape[2] - size :]
        return states

    def forward(self, ids: Tensor) -> Tensor:
        """Append the next token (b, 1) of each row; returns its final state (b, D)."""
        last = self.lengths
        self.lengths = last + 1
        self._reserve()
        rows, columns = torch.arange(len(last)), int(last.max()) + 1
        unseen = torch.arange(columns) > last.unsqueeze(1)  # (b, T)
        hidden = torch.zeros(unseen.shape).masked_fill_(unseen, -torch.inf)
        hidden = hidden.repeat_interleave(self.dense.heads[1], dim=0).unsqueeze(1)  # (b·H_kv, 1, T)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys, values = self.kept[layer], self.kept[layer + len(self.layers)]
            keys[rows, :, last], values[rows, :, last] = k.squeeze(2), v.squeeze(2)
            keys, values = (kept[: len(last), :, :columns].flatten(0, 1) for kept in (keys, values))
            return attention_of_one(q, keys, values, hidden)

        at = torch.ones(ids.shape, dtype=torch.bool)
        return self.dense.states(self.layers, self.dense.decoder.embed_tokens(ids), last.unsqueeze(1), attend, at)

    def take(self, order: Sequence[int]) -> None:
        """Keep the rows `order`, each at its place there; only rows from behind the kept ones may change place."""
        moved = [(new, old) for new, old in enumerate(order) if new != old]
        for kept in self.kept:
            for new, old in moved:
                kept[new] = kept[old]
        self.lengths = self.lengths[torch.tensor(order, dtype=torch.long)]

    def _reserve(self) -> None:
        """Make room for all rows and tokens, and for some more: growing copies everything."""
        slots, heads, columns, size = self.kept[0].shape
        rows, longest = len(self.lengths), int(self.lengths.max())
        if rows > slots or longest > columns:
            shape = max(rows, slots), heads, -(-longest // COLUMNS) * COLUMNS, size
            for number, old in enumerate(self.kept):
                self.kept[number] = old.new_zeros(shape)  # not `empty`: 0 × NaN in a hidden column is NaN
                self.kept[number][:slots, :, :columns] = old


def attention_of_one(q: Tensor, keys: Tensor, values: Tensor, hidden: Tensor) -> Tensor:
    """Attention of one more token per row, in a few products over all rows; torch's kernel goes from head to head.

    Args:
        q: (b, H, 1, d).
        keys, values: (b·H_kv, T, d).
        hidden: (b·H_kv, 1, T), −∞ where a row has no token.

    Returns:
        (b, H, 1, d).
    """
    grouped = q.reshape(len(keys), -1, q.shape[3])  # (b·H_kv, H/H_kv, d)
    scores = torch.baddbmm(hidden.to(q.dtype), grouped, keys.mT, alpha=q.shape[3] ** -0.5)
    return (torch.softmax(scores, dim=-1) @ values).view_as(q)
