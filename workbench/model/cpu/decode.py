"""Sampling on the dense weights of a role: keys and values kept in place, rows that have ended dropped.

Each core answers rows of its own. What is drawn depends on the seed and on a row's place in the batch, not on how many
cores there are; it is what transformers draws from the same seed. Shapes: B = batch, b = rows of a core, T = tokens,
R = response tokens, V = vocabulary, D = hidden, d = size of a head.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.model.cpu.blocks import cores, on_each_core
from workbench.model.cpu.dense import Attend, Dense, Merged
from workbench.model.masks import causal_mask, is_end, pad_rows, position_ids


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
        dense: of the model.
        lm_head: (V, D).
        prompts: B lists of token ids.
        eos_ids: each of them ends a response.
        pad_id: of the tokenizer.
        max_new_tokens: R at most.
        temperature: of the softmax, > 0.
        seed: of the draws.

    Returns:
        (B, R) int64; what stands after the first of `eos_ids` means nothing.
    """
    layers = dense.merged()
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    responses = torch.full((len(prompts), max_new_tokens), pad_id)

    @torch.no_grad()
    def answer(rows: list[int]) -> int:
        """Fill in the responses of some rows; returns their longest."""
        generator = torch.Generator().manual_seed(seed)
        ids, mask = pad_rows([list(prompts[row]) for row in rows], pad_id, side="left")
        cache, places = Cache(dense, layers, mask, max_new_tokens), torch.tensor(rows)
        ended = torch.zeros(len(rows), dtype=torch.bool)
        for step in range(max_new_tokens):
            logits = cache.read(ids).float() @ lm_head.float().T
            noise = torch.empty(len(prompts), len(lm_head)).exponential_(generator=generator)
            tokens = (torch.softmax(logits / temperature, dim=-1) / noise[places]).argmax(dim=-1)
            responses[places, step] = tokens
            ended = ended | is_end(tokens, eos_ids)
            if bool(ended.all()):
                return step + 1
            if 4 * int(ended.sum()) >= len(ended):  # dropping rows copies the others
                cache.keep(~ended)
                tokens, places, ended = tokens[~ended], places[~ended], ended[~ended]
            ids = tokens.unsqueeze(1)
        return max_new_tokens

    parts = min(cores(), len(order))
    return responses[:, : max(on_each_core(answer, [order[part::parts] for part in range(parts)]))]


class Cache:
    """Keys and values of b left-padded rows in every layer, with room for the tokens to come.

    Args:
        dense: of the model.
        layers: merged.
        mask: (b, T) bool, True on the tokens of the prompts.
        room: for so many more tokens.
    """

    def __init__(self, dense: Dense, layers: list[tuple[Merged, ...]], mask: Tensor, room: int) -> None:
        self.dense, self.layers = dense, layers
        self.mask = torch.cat([mask, mask.new_ones(len(mask), room)], dim=1)
        self.length = 0
        self.keys, self.values = list[Tensor](), list[Tensor]()
        """Of each layer, (b, H_kv, T + room, d)."""

    def read(self, ids: Tensor) -> Tensor:
        """Read the next tokens (b, T) of each row, the prompts first; the final hidden state (b, D) of the last one."""
        before, self.length = self.length, self.length + ids.shape[1]
        positions = position_ids(self.mask[:, : self.length])[:, before:]
        last = (torch.arange(ids.shape[1]) == ids.shape[1] - 1).expand(ids.shape)
        attend = self._attend_to_prompts() if before == 0 else self._attend_to_all(before)
        return self.dense.states(self.layers, self.dense.decoder.embed_tokens(ids), positions, attend, last)

    def _attend_to_prompts(self) -> Attend:
        reads = causal_mask(self.mask[:, : self.length])

        def attend(_: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            for cache, new in ((self.keys, k), (self.values, v)):
                cache.append(new.new_empty(*new.shape[:2], self.mask.shape[1], new.shape[3]))
                cache[-1][:, :, : self.length] = new
            return self.dense.attention(q, k, v, reads)

        return attend

    def _attend_to_all(self, before: int) -> Attend:
        """One more token a row; few products of all rows, where the usual kernel goes from head to head."""
        kv_heads = self.keys[0].shape[1]
        hidden = torch.zeros(self.mask.shape).masked_fill_(~self.mask, -torch.inf)[:, : self.length]
        hidden = hidden.repeat_interleave(kv_heads, dim=0).unsqueeze(1)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys, values = self.keys[layer], self.values[layer]
            keys[:, :, before : self.length], values[:, :, before : self.length] = k, v
            keys, values = (kept[:, :, : self.length].flatten(0, 1) for kept in (keys, values))
            grouped = q.reshape(len(keys), -1, q.shape[3])
            scores = torch.baddbmm(hidden.to(q.dtype), grouped, keys.mT, alpha=q.shape[3] ** -0.5)
            return (torch.softmax(scores, dim=-1) @ values).view_as(q)

        return attend

    def keep(self, rows: Tensor) -> None:
        """Drop all rows but those of a mask (b,)."""
        self.mask = self.mask[rows]
        self.keys, self.values = ([kept[rows] for kept in cache] for cache in (self.keys, self.values))
