"""Tokenised rows for trainers. Knows token ids, no model and no trainer.

TRL's RewardTrainer drops long pairs silently, and its SFTTrainer and DPOTrainer cut them. Here a row is whole, or it is
dropped, counted and reported. Characters that become `<unk>` are counted and reported too.
"""

import logging
import math
from array import array
from collections.abc import Callable, Iterable, Iterator, MutableSequence, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Protocol, TypeVar

from workbench.data.base_files import fit_positions
from workbench.data.records import Demonstration, Message, Preference, Prompt
from workbench.data.refusals import accepted, conversation
from workbench.data.rules import RowRules
from workbench.data.template import end_ids
from workbench.data.tokenise import (
    encode_prompt,
    encode_response,
    knows_all_characters,
    render,
    unknown_characters,
    unknown_id,
)
from workbench.run.errors import WorkbenchError

_log = logging.getLogger(__name__)
LossOn = Literal["last", "all"]
MOST_UNKNOWN = 0.05
"""Share of a file's tokens that may be `<unk>`: more is a hole in each sentence of twenty words. A vocabulary that
lacks only line breaks stays below it; one that lacks the script of the text is far above."""
_SHOWN_TEXTS = 1000
"""Texts whose characters without a token are named."""
MANY = 0.1
"""Share of dropped rows from which the warning names a limit that would keep them."""


class Rows(Protocol):
    """What rows are appended to: a list, or a file."""

    def append(self, row: dict[str, list[int]], /) -> None:
        """Add a row."""


@dataclass(frozen=True)
class EncodedRows:
    """Rows for a trainer, in the order of their records."""

    rows: list[dict[str, list[int]]]
    """Token ids and masks, unpadded."""
    kept: Sequence[int]
    """Index of the record of each row, to look up its id, group or weight."""
    dropped: int
    """Records longer than the limit, without those that the template refused."""
    longest: int
    """Tokens of the longest record, including dropped ones."""
    cut: int = 0
    """Records whose prompt was cut to keep the limit."""
    unknown: int = 0
    """`<unk>` tokens of the rows; for a vocabulary without `<unk>`, characters that were left out."""


def encode_demonstrations(
    tokenizer: Any,
    demonstrations: Sequence[Demonstration],
    *,
    max_length: int,
    source: object,
    loss_on: LossOn = "last",
    rules: RowRules | None = None,
    limit_name: str = "data.max_length",
    into: Rows | None = None,
) -> EncodedRows:
    """Rows `{"input_ids", "completion_mask"}` for SFTTrainer, with prompt and response joined.

    SFTTrainer reads the mask only with `completion_only_loss=True`.

    Args:
        tokenizer: with a frozen template (`ensure_template`).
        demonstrations: prompts with the responses to imitate.
        max_length: most tokens of prompt and response together.
        source: the file, for messages.
        loss_on: `last`: the mask is 1 on the response. `all`: also on the assistant's earlier turns; see `turn_mask`.
        rules: how many rows the template may refuse.
        limit_name: the config key of `max_length`, for messages.
        into: takes the rows, one by one; the result then has none.

    Raises:
        WorkbenchError: every record is too long; the template refuses too many; too many characters have no token.
    """

    def encode(record: Demonstration) -> tuple[dict[str, list[int]], int]:
        prompt = encode_prompt(tokenizer, record.prompt)
        response = encode_response(tokenizer, record.prompt, record.response)
        before = turn_mask(tokenizer, record.prompt, prompt) if loss_on == "all" else [0] * len(prompt)
        mask = before + [1] * len(response)
        return {"input_ids": prompt + response, "completion_mask": mask}, len(mask)

    limit = _Limit(max_length, limit_name, source, "demonstrations")
    return _encoded(tokenizer, demonstrations, encode, limit, rules, into)


def turn_mask(tokenizer: Any, prompt: Sequence[Message], ids: Sequence[int]) -> list[int]:
    """1 on the assistant's turns within a prompt, including the end token that the template writes after each.

    The tokens of a turn are those that `encode_response` gives after the turns before it. Some templates write an
    earlier turn differently from a last one (without its reasoning); such a turn is not found and stays 0.

    Args:
        tokenizer: with a frozen template.
        prompt: messages.
        ids: (P,) their tokens from `encode_prompt`.

    Returns:
        mask: (P,) 0 or 1.
    """
    mask = [0] * len(ids)
    ends = {*tokenizer.all_special_ids} - {tokenizer.bos_token_id, tokenizer.unk_token_id} | {*end_ids(tokenizer)}
    for turn, message in enumerate(prompt):
        if message.role != "assistant" or not message.content.strip() or not turn:
            continue
        start = len(encode_prompt(tokenizer, prompt[:turn]))
        response = encode_response(tokenizer, prompt[:turn], message.content)[:-1]
        end = start + len(response)
        if list(ids[start:end]) == response:
            end += end < len(ids) and ids[end] in ends
            mask[start:end] = [1] * (end - start)
    return mask


def earlier_turns(demonstrations: Iterable[Demonstration]) -> tuple[int, int]:
    """The number of assistant turns before the last, and of conversations that have any."""
    turns = conversations = 0
    for record in demonstrations:
        count = sum(message.role == "assistant" for message in record.prompt)
        turns, conversations = turns + count, conversations + (count > 0)
    return turns, conversations


def encode_pairs(
    tokenizer: Any,
    preferences: Sequence[Preference],
    *,
    max_length: int,
    source: object,
    prompt_apart: bool = False,
    truncate_prompt: bool = False,
    rules: RowRules | None = None,
) -> EncodedRows:
    """Rows `{"chosen_ids", "rejected_ids"}` for RewardTrainer, each with the prompt.

    With `prompt_apart`, rows `{"prompt_ids", "chosen_ids", "rejected_ids"}` as DPOTrainer's collator reads them; the
    latter two hold only the responses. DPOTrainer 1.16 tokenises whatever it gets: override its `_prepare_dataset`.

    Args:
        tokenizer: with a frozen template (`ensure_template`).
        preferences: chosen and rejected responses.
        max_length: most tokens of the prompt with either response.
        source: the file, for messages.
        prompt_apart: keep the prompt's ids in a separate field.
        truncate_prompt: cut the prompt of a pair that is too long from the left, after its first token (BOS), equally
            in both rows; if not even two of its tokens fit, the pair is dropped.
        rules: how many rows the template may refuse.

    Raises:
        WorkbenchError: every pair is too long; the template refuses too many; too many characters have no token.
    """
    cut = 0

    def encode(preference: Preference) -> tuple[dict[str, list[int]], int]:
        nonlocal cut
        prompt = encode_prompt(tokenizer, preference.prompt)
        chosen = encode_response(tokenizer, preference.prompt, preference.chosen_text)
        rejected = encode_response(tokenizer, preference.prompt, preference.rejected_text)
        room = max_length - max(len(chosen), len(rejected))
        if truncate_prompt and 2 <= room < len(prompt):
            prompt = [prompt[0], *prompt[1 - room :]]
            cut += 1
        length = len(prompt) + max(len(chosen), len(rejected))
        if prompt_apart:
            return {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}, length
        return {"chosen_ids": prompt + chosen, "rejected_ids": prompt + rejected}, length

    encoded = _encoded(tokenizer, preferences, encode, _Limit(max_length, "data.max_length", source, "pairs"), rules)
    if cut:
        _log.warning(
            "%s: cut the prompts of %d of %d pairs to data.max_length=%d tokens",
            *(source, cut, len(preferences), max_length),
        )
    return replace(encoded, cut=cut)


def encode_prompts(
    tokenizer: Any,
    prompts: Sequence[Prompt],
    *,
    max_length: int,
    source: object,
    rules: RowRules | None = None,
) -> EncodedRows:
    """Rows `{"prompt_ids"}` of prompts with at most `max_length` tokens.

    Args:
        tokenizer: with a frozen template (`ensure_template`).
        prompts: to be answered.
        max_length: most tokens of a prompt.
        source: the file, for messages.
        rules: how many rows the template may refuse.

    Raises:
        WorkbenchError: every prompt is too long; the template refuses too many; too many characters have no token.
    """

    def encode(record: Prompt) -> tuple[dict[str, list[int]], int]:
        ids = encode_prompt(tokenizer, record.prompt)
        return {"prompt_ids": ids}, len(ids)

    return _encoded(tokenizer, prompts, encode, _Limit(max_length, "data.max_prompt_length", source, "prompts"), rules)


PromptT = TypeVar("PromptT", Prompt, Demonstration)


def prompts_that_fit(tokenizer: Any, prompts: Iterable[PromptT], *, max_new_tokens: int) -> Iterator[PromptT]:
    """The prompts whose answer fits into the base's positions, each encoded when it is asked for."""
    room = tokenizer.model_max_length - max_new_tokens
    return (prompt for prompt in prompts if len(encode_prompt(tokenizer, prompt.prompt)) <= room)


def prompts_with_room(tokenizer: Any, prompts: Sequence[PromptT], *, max_new_tokens: int, key: str) -> list[PromptT]:
    """The prompts that fit, at least one.

    Raises:
        WorkbenchError: there are none; see `check_prompts`.
    """
    kept = list(prompts_that_fit(tokenizer, prompts, max_new_tokens=max_new_tokens))
    if not kept:
        check_prompts(tokenizer, prompts, max_new_tokens=max_new_tokens, key=key)
    return kept


def check_prompts(tokenizer: Any, prompts: Sequence[Prompt | Demonstration], *, max_new_tokens: int, key: str) -> None:
    """Check that every prompt with its answer fits into the base's positions.

    Args:
        tokenizer: its `model_max_length` is the base's number of positions.
        prompts: to be answered.
        max_new_tokens: most tokens of an answer.
        key: the option that sets `max_new_tokens`, for the message.

    Raises:
        WorkbenchError: the longest prompt does not fit; the remedy is a value that does.
    """
    lengths = {prompt.id: len(encode_prompt(tokenizer, prompt.prompt)) for prompt in prompts}
    positions = tokenizer.model_max_length
    name = max(lengths, key=lengths.__getitem__, default="")
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


@dataclass(frozen=True)
class _Limit:
    """The length limit of one file's rows, and the words for messages about it."""

    tokens: int
    name: str
    """The config key."""
    source: object
    """The file."""
    kind: str
    """The plural of its records."""


def _encoded(
    tokenizer: Any,
    records: Sequence[Any],
    encode: Callable[[Any], tuple[dict[str, list[int]], int]],
    limit: _Limit,
    rules: RowRules | None,
    into: Rows | None = None,
) -> EncodedRows:
    """The rows of the records that the template accepts and the limit allows.

    Args:
        tokenizer: with a frozen template.
        records: demonstrations, preferences or prompts.
        encode: record → its row, and the tokens to compare with the limit.
        limit: of the tokens.
        rules: how many rows the template may refuse.
        into: takes the rows instead of the result.
    """
    if not records:
        raise WorkbenchError(limit.source, f"it has no {limit.kind}", expected="at least one")
    positions = tokenizer.model_max_length
    fit_positions(positions, {limit.name: limit.tokens})
    taken = accepted(partial(render, tokenizer), records, source=limit.source, rules=rules)
    rows: list[dict[str, list[int]]] = []
    kept: MutableSequence[int] = [] if into is None else array("q")
    lengths, unknown = array("q"), _Unknown(tokenizer)
    for index in taken:
        record = records[index]
        row, length = encode(record)
        lengths.append(length)
        if length <= limit.tokens:
            (rows if into is None else into).append(row)
            kept.append(index)
            unknown.see(row, record)
    _report_lengths(lengths, limit, positions)
    return EncodedRows(rows, kept, len(taken) - len(kept), max(lengths), unknown=unknown.report(len(kept), limit))


def _report_lengths(lengths: Sequence[int], limit: _Limit, positions: int) -> None:
    """Warn if rows are too long, or fail if all are; the remedy is a limit that keeps them."""
    shortest, longest, dropped = min(lengths), max(lengths), sum(length > limit.tokens for length in lengths)
    if dropped == len(lengths):
        most = min(longest, positions)
        raise WorkbenchError(
            limit.source,
            f"all {len(lengths)} {limit.kind} are too long: the shortest has {shortest} tokens, the longest {longest}",
            expected=f"at most {limit.tokens} tokens ({limit.name}); the base has {positions} positions",
            remedy=f"{limit.name}={most} keeps {'them all' if most == longest else 'those that the base can read'}"
            if shortest <= positions
            else "shorten them, or use a base with more positions",
        )
    if dropped:
        most = min(positions, sorted(lengths)[math.ceil(0.95 * len(lengths)) - 1])
        share = sum(length <= most for length in lengths) / len(lengths)
        helps = dropped > MANY * len(lengths) and most > limit.tokens
        advice = f"; {limit.name}={most} would keep {share:.0%} of them" if helps else ""
        _log.warning(
            "%s: dropped %d of %d %s, longer than %s=%d tokens (the longest has %d)%s",
            *(limit.source, dropped, len(lengths), limit.kind, limit.name, limit.tokens, longest, advice),
        )


class _Unknown:
    """Counts the tokens that stand for characters without one."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, self._unknown = tokenizer, unknown_id(tokenizer)
        self._knows_all = knows_all_characters(tokenizer)
        self._count = self._tokens = self._affected = 0
        self._texts: list[str] = []

    def see(self, row: dict[str, list[int]], record: Any) -> None:
        """Count those of a row; a vocabulary without `<unk>` leaves characters out, which only the text shows."""
        if self._knows_all:
            return
        ids = [ids for key, ids in row.items() if key.endswith("_ids")]
        count = 0 if self._unknown is None else sum(own.count(self._unknown) for own in ids)
        self._count += count
        self._tokens += sum(map(len, ids))
        if count or self._unknown is None:
            self._affected += 1
            if len(self._texts) < _SHOWN_TEXTS:
                self._texts.append(render(self._tokenizer, [turn.model_dump() for turn in conversation(record)]))

    def report(self, rows: int, limit: _Limit) -> int:
        """Their number; a warning names the characters, and too many are an error."""
        characters = unknown_characters(self._tokenizer, self._texts)
        count = self._count if self._unknown is not None else sum(characters.values())
        if not count:
            return 0
        becomes = f"become {self._tokenizer.unk_token}" if self._unknown is not None else "are left out"
        problem = (
            f"characters of {self._affected:,} of {rows:,} {limit.kind} have no token in the base's vocabulary: "
            f"{count:,} of {self._tokens:,} tokens ({count / self._tokens:.1%}) {becomes}: "
            f"{' '.join(map(repr, list(characters)[:20]))}"
        )
        if count > MOST_UNKNOWN * self._tokens:
            raise WorkbenchError(
                limit.source,
                problem,
                expected=f"at most {MOST_UNKNOWN:.0%} of the tokens",
                remedy="a base whose tokenizer knows these characters (byte-level, or with byte fallback), or replace "
                "them",
            )
        _log.warning("%s: %s", limit.source, problem)
        return count
