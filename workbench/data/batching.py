"""Tokenised rows for trainers, with a count of what is too long. Knows token ids, no model and no trainer.

TRL's RewardTrainer drops long pairs without a word, and its SFTTrainer and DPOTrainer cut them; here a row is
whole, or it is dropped, counted and reported.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from workbench.data.base_files import fit_positions
from workbench.data.records import Demonstration, Preference, Prompt
from workbench.data.tokenise import encode_prompt, encode_response
from workbench.run.errors import WorkbenchError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EncodedRows:
    """Rows for a trainer, in the order of the records."""

    rows: list[dict[str, list[int]]]
    """Token ids and masks, unpadded."""
    kept: list[int]
    """Index of each row's record, to look up its id, group or weight."""
    dropped: int
    """Records that were longer than the limit."""
    longest: int
    """Tokens of the longest record, dropped ones included."""
    cut: int = 0
    """Records of which a part of the prompt was cut off to keep the limit."""


def encode_demonstrations(
    tokenizer: Any, demonstrations: Sequence[Demonstration], *, max_length: int, place: object
) -> EncodedRows:
    """Rows `{"input_ids", "completion_mask"}` for SFTTrainer, prompt and response in one.

    SFTTrainer reads the mask only with `completion_only_loss=True`.

    Args:
        tokenizer: with a frozen template (`ensure_template`).
        demonstrations: what to imitate.
        max_length: tokens of prompt and response together, at most.
        place: the file, for messages.

    Raises:
        WorkbenchError: every record is too long.
    """
    rows, lengths = [], []
    for demonstration in demonstrations:
        prompt = encode_prompt(tokenizer, demonstration.prompt)
        response = encode_response(tokenizer, demonstration.prompt, demonstration.response)
        mask = [0] * len(prompt) + [1] * len(response)
        rows.append({"input_ids": prompt + response, "completion_mask": mask})
        lengths.append(len(mask))
    return _within(rows, lengths, max_length, place, "demonstrations", "data.max_length", tokenizer.model_max_length)


def encode_pairs(
    tokenizer: Any,
    preferences: Sequence[Preference],
    *,
    max_length: int,
    place: object,
    prompt_apart: bool = False,
    truncate_prompt: bool = False,
) -> EncodedRows:
    """Rows `{"chosen_ids", "rejected_ids"}` for RewardTrainer, the prompt in both.

    With `prompt_apart`, rows `{"prompt_ids", "chosen_ids", "rejected_ids"}` as DPOTrainer's collator reads
    them, the responses alone in the latter two. (DPOTrainer 1.16 tokenises whatever it is given: keep it from
    doing so by overriding its `_prepare_dataset`.)

    Args:
        tokenizer: with a frozen template (`ensure_template`).
        preferences: chosen and rejected responses.
        max_length: tokens of the prompt with either response, at most.
        place: the file, for messages.
        prompt_apart: keep the prompt's ids in a field of their own.
        truncate_prompt: cut the prompt of a pair that is too long from the left, after its first token (BOS), in both
            rows alike; where two tokens of it do not fit either, the pair is dropped.

    Raises:
        WorkbenchError: every pair is too long.
    """
    rows, lengths, cut = [], [], 0
    for preference in preferences:
        prompt = encode_prompt(tokenizer, preference.prompt)
        chosen = encode_response(tokenizer, preference.prompt, preference.chosen_text)
        rejected = encode_response(tokenizer, preference.prompt, preference.rejected_text)
        room = max_length - max(len(chosen), len(rejected))
        if truncate_prompt and 2 <= room < len(prompt):
            prompt = [prompt[0], *prompt[1 - room :]]
            cut += 1
        if prompt_apart:
            rows.append({"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected})
        else:
            rows.append({"chosen_ids": prompt + chosen, "rejected_ids": prompt + rejected})
        lengths.append(len(prompt) + max(len(chosen), len(rejected)))
    if cut:
        _log.warning(
            "%s: cut the prompts of %d of %d pairs to data.max_length=%d tokens", place, cut, len(rows), max_length
        )
    return replace(
        _within(rows, lengths, max_length, place, "pairs", "data.max_length", tokenizer.model_max_length), cut=cut
    )


def encode_prompts(
    tokenizer: Any,
    prompts: Sequence[Prompt],
    *,
    max_length: int,
    place: object,
    limit_name: str = "data.max_prompt_length",
) -> EncodedRows:
    """Rows `{"prompt_ids"}` of prompts with at most `max_length` tokens.

    Args:
        tokenizer: with a frozen template (`ensure_template`).
        prompts: what to answer.
        max_length: tokens of a prompt, at most.
        place: the file, for messages.
        limit_name: the config key of the limit, for messages.

    Raises:
        WorkbenchError: every prompt is too long.
    """
    rows = [{"prompt_ids": encode_prompt(tokenizer, prompt.prompt)} for prompt in prompts]
    lengths = [len(row["prompt_ids"]) for row in rows]
    return _within(rows, lengths, max_length, place, "prompts", limit_name, tokenizer.model_max_length)


PromptT = TypeVar("PromptT", Prompt, Demonstration)


def prompts_with_room(tokenizer: Any, prompts: Sequence[PromptT], *, max_new_tokens: int, key: str) -> list[PromptT]:
    """Of prompts of which any will do: those that an answer can follow within the base's positions.

    Raises:
        WorkbenchError: there is none; see `check_prompts`.
    """
    room = tokenizer.model_max_length - max_new_tokens
    kept = [prompt for prompt in prompts if len(encode_prompt(tokenizer, prompt.prompt)) <= room]
    if not kept:
        check_prompts(tokenizer, prompts, max_new_tokens=max_new_tokens, key=key)
    return kept


def check_prompts(tokenizer: Any, prompts: Sequence[Prompt | Demonstration], *, max_new_tokens: int, key: str) -> None:
    """Refuse to sample answers that would go beyond the base's positions.

    Args:
        tokenizer: whose `model_max_length` is the base's positions.
        prompts: what is answered.
        max_new_tokens: tokens of an answer, at most.
        key: what sets `max_new_tokens`, for the message.

    Raises:
        WorkbenchError: names the longest prompt, the positions, and a value that fits.
    """
    lengths = {prompt.id: len(encode_prompt(tokenizer, prompt.prompt)) for prompt in prompts}
    positions = tokenizer.model_max_length
    name = max(lengths, key=lambda one: lengths[one], default="")
    if not lengths or lengths[name] + max_new_tokens <= positions:
        return
    room = positions - lengths[name]
    raise WorkbenchError(
        key,
        f"{max_new_tokens} new tokens after the longest prompt ({name!r}, {lengths[name]} tokens) are "
        f"{lengths[name] + max_new_tokens}, but the base has {positions} positions",
        expected=f"at most {positions} tokens of prompt and answer together",
        remedy=f"{key}={room}, or without the longest prompts" if room > 0 else "leave out the longest prompts",
    )


def _within(
    rows: list[dict[str, list[int]]],
    lengths: list[int],
    limit: int,
    place: object,
    kind: str,
    limit_name: str,
    positions: int,
) -> EncodedRows:
    if not rows:
        raise WorkbenchError(place, f"it has no {kind}", expected="at least one")
    fit_positions(positions, {limit_name: limit})
    kept = [index for index, length in enumerate(lengths) if length <= limit]
    shortest, longest = min(lengths), max(lengths)
    if not kept:
        most = min(longest, positions)
        raise WorkbenchError(
            place,
            f"all {len(rows)} {kind} are too long: the shortest has {shortest} tokens, the longest {longest}",
            expected=f"at most {limit} tokens ({limit_name}); the base has {positions} positions",
            remedy=f"{limit_name}={most} keeps {'them all' if most == longest else 'those that the base can read'}"
            if shortest <= positions
            else "shorten them, or use a base with more positions",
        )
    dropped = len(rows) - len(kept)
    if dropped:
        _log.warning(
            "%s: dropped %d of %d %s, longer than %s=%d tokens (the longest has %d)",
            *(place, dropped, len(rows), kind, limit_name, limit, longest),
        )
    return EncodedRows([rows[index] for index in kept], kept, dropped, longest)
