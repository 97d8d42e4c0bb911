"""Sampling responses from a role: left-padded batches, eval mode, the pure softmax at a temperature.

With the CPU kernels if they apply, else by transformers. No top-k, top-p or minimum length: they would make the
sampled distribution another one than the scored distribution.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import Cache, PreTrainedTokenizerBase

from workbench.data.records import Prompt
from workbench.data.template import end_ids
from workbench.data.tokenise import decode_response, encode_prompt
from workbench.model.cpu.decode import decode
from workbench.model.masks import ended, pad_rows, position_ids, response_mask
from workbench.model.precision import COLDEST
from workbench.model.roles import Roles, check_row


@dataclass(frozen=True)
class Responses:
    """Sampled responses to one batch of prompts. B = batch, R = response tokens."""

    ids: Tensor
    """(B, R) int64; the pad token after the end."""
    mask: Tensor
    """(B, R) bool, True on real tokens, EOS included."""
    ended: Tensor
    """(B,) bool: has an end token (`end_ids`)."""

    def lists(self) -> list[list[int]]:
        """B responses as lists of token ids, EOS included."""
        return [ids[real].tolist() for ids, real in zip(self.ids, self.mask, strict=True)]


@dataclass(frozen=True)
class Sampled:
    """One sampled answer as text."""

    text: str
    temperature: float
    ended: bool
    ids: tuple[int, ...] = ()
    """Response token ids, EOS included."""


def generate(
    roles: Roles,
    role: str,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
) -> Responses:
    """Sample one response to each prompt.

    Args:
        roles: the base with its adapters.
        role: whose answers.
        prompts: B lists of token ids, BOS included.
        max_new_tokens: R at most.
        temperature: of the softmax, > 0.
        seed: of the sampling; the global random state is left as it was.
    """
    options: Any = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
    check_row(max(map(len, prompts), default=0) + max_new_tokens, roles.positions)
    with roles.use(role):
        dense = roles.cpu_kernels
        if roles.virtual_tokens:
            cache = roles.virtual_cache(len(prompts))
            options |= {"device": roles.device, "cache": cache}
            return generate_with(roles.causal_model, roles.tokenizer, prompts, **options)
        if dense is None:
            return generate_with(roles.model, roles.tokenizer, prompts, **options, device=roles.device)
        tokenizer = roles.tokenizer
        ends: Any = {"eos_ids": end_ids(tokenizer), "pad_id": tokenizer.pad_token_id}
        return _responses(decode(dense, roles.lm_head, prompts, **ends, **options), tokenizer)


def generate_with(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    device: torch.device,
    cache: Cache | None = None,
) -> Responses:
    """`generate` with transformers, for any model that is in eval mode; `cache` holds tokens before every row."""
    input_ids, mask = pad_rows([list(prompt) for prompt in prompts], tokenizer.pad_token_id, side="left")
    if cache is not None:  # generate drops as many ids as the cache holds tokens
        before = (cache.get_seq_length(), 0)
        input_ids, mask = pad(input_ids, before, value=tokenizer.pad_token_id), pad(mask, before, value=True)
    input_ids, mask = input_ids.to(device), mask.to(device)
    with torch.no_grad(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        sequences = model.generate(
            input_ids=input_ids,
            attention_mask=mask.long(),
            position_ids=position_ids(mask),
            max_new_tokens=max_new_tokens,
            do_sample=True,
            temperature=max(temperature, COLDEST),
            top_k=0,
            top_p=1.0,
            use_cache=True,
            past_key_values=cache,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=list(end_ids(tokenizer)),
        )
    return _responses(sequences[:, input_ids.shape[1] :], tokenizer)


def _responses(ids: Tensor, tokenizer: PreTrainedTokenizerBase) -> Responses:
    """Sampled tokens (B, R) up to the first end token of each row."""
    ends = end_ids(tokenizer)
    real = response_mask(ids, ends)
    ids = ids.masked_fill(~real, tokenizer.pad_token_id)
    return Responses(ids, real, ended(ids, ends, real))


def sample(
    roles: Roles,
    role: str,
    prompts: Sequence[Prompt],
    *,
    temperatures: Sequence[float],
    responses_per_prompt: int,
    max_new_tokens: int,
    batch_size: int,
    seed: int,
) -> Iterator[tuple[Prompt, list[Sampled]]]:
    """Yield each prompt with its sampled answers, in order; answer j of prompt i is sampled at one of `temperatures`.

    Temperatures rotate over prompts and answers, so that each is used equally often and pairs mix them. At most
    `batch_size` answers are sampled at one time. They depend on `seed` and on the batch layout only.
    """
    for start in range(0, len(prompts), batch_size):
        batch = prompts[start : start + batch_size]
        jobs: dict[float, list[tuple[int, int]]] = {}
        for i in range(len(batch)):
            for j in range(responses_per_prompt):
                jobs.setdefault(temperatures[(start + i + j) % len(temperatures)], []).append((i, j))
        passes = [
            (temperature, places[first : first + batch_size])
            for temperature, places in jobs.items()
            for first in range(0, len(places), batch_size)
        ]
        answers: list[list[Sampled | None]] = [[None] * responses_per_prompt for _ in batch]
        encoded = [encode_prompt(roles.tokenizer, prompt.prompt) for prompt in batch]
        for number, (temperature, places) in enumerate(passes):
            responses = generate(
                roles,
                role,
                [encoded[i] for i, _ in places],
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                seed=seed + start * 100 + number,
            )
            for (i, j), ids, real, done in zip(
                places, responses.ids.tolist(), responses.mask.tolist(), responses.ended.tolist(), strict=True
            ):
                kept = tuple(token for token, counts in zip(ids, real, strict=True) if counts)
                answers[i][j] = Sampled(decode_response(roles.tokenizer, kept), temperature, done, kept)
        for prompt, texts in zip(batch, answers, strict=True):
            yield prompt, [text for text in texts if text is not None]
