"""The token ids of prompts and responses: the only place that decides them. Knows tokenizers, no model.

    prompt ids   = BOS and the template's text, up to and including the generation prompt
    response ids = the rest of the templated conversation, with EOS once at the end; a sampled response may end with
                   another of the base's end tokens

Sampling, training, scoring and serving all use these ids, so a response means the same everywhere. Text that looks
like a special token (`</s>` typed by a person or written by a model) stays text.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import takewhile
from typing import Any

from jinja2 import TemplateError

from workbench.data.records import Message
from workbench.data.template import end_ids
from workbench.run.errors import WorkbenchError

_HIDDEN = "\ue000special:{}\ue001"
"""Placeholder in the rendered text for text of a message that looks like a special token."""

_RARE = "\ue003"
"""A character that has no token of its own in any vocabulary."""

UNKNOWN = "⟨unk⟩"
"""Shown in an answer in place of the token for unknown characters."""


def encode_prompt(tokenizer: Any, prompt: Sequence[Message]) -> list[int]:
    """Token ids of a prompt: BOS, the templated messages, the template's generation prompt."""
    hidden: list[str] = []
    messages = [(str(message.role), _hide(tokenizer, message.content, hidden)) for message in prompt]
    return _encode(tokenizer, _render(tokenizer, messages), hidden)


def encode_response(tokenizer: Any, prompt: Sequence[Message], response: str) -> list[int]:
    """Token ids of a response after its prompt: the text as the template continues it, then EOS once.

    If no token spans prompt and response, prompt ids + response ids are exactly the ids of the whole templated
    conversation. Only the roles of `prompt` matter, not its texts.
    """
    opening, lead = _frame(tokenizer, tokenizer.chat_template, tuple(message.role for message in prompt))
    hidden: list[str] = []
    content = _hide(tokenizer, response, hidden)
    for context in (opening, "\n"):
        before = _encode(tokenizer, context, [])
        ids = _encode(tokenizer, context + lead + content, hidden)
        if ids[: len(before)] == before:
            return [*ids[len(before) :], tokenizer.eos_token_id]
    return [*_encode(tokenizer, lead + content, hidden), tokenizer.eos_token_id]


def encode_text(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a plain text, without a template: BOS (if the tokenizer has one), the text, EOS."""
    hidden: list[str] = []
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    return [*start, *_encode(tokenizer, _hide(tokenizer, text, hidden), hidden), tokenizer.eos_token_id]


def encode_rows(tokenizer: Any, prompt: Sequence[Message], *responses: str) -> list[list[int]]:
    """Token ids of the prompt with each response: the rows that a reward model scores."""
    ids = encode_prompt(tokenizer, prompt)
    return [ids + encode_response(tokenizer, prompt, response) for response in responses]


def decode_response(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text of response ids up to the first end token, without the template's leading space.

    The token for unknown characters is shown as `UNKNOWN`, so the text does not determine the ids.
    """
    ends = end_ids(tokenizer)
    ids = list(takewhile(lambda token: token not in ends, map(int, ids)))
    opening, lead = _frame(tokenizer, tokenizer.chat_template, ("user",))
    before = _encode(tokenizer, opening, [])
    start = len(_decode(tokenizer, before))
    text = _decode(tokenizer, [*before, *ids])
    unknown = unknown_id(tokenizer)
    holes = [index for index, token in enumerate(ids) if token == unknown]
    for index in reversed(holes):  # decoding skips unknown tokens: insert each after the text before it
        end = len(_decode(tokenizer, [*before, *ids[:index]]))
        text = text[:end] + UNKNOWN + text[end:]
    return text[start:].removeprefix(lead)


def unknown_id(tokenizer: Any) -> int | None:
    """The id of the token for unknown characters, or None.

    Byte-level tokenizers know every character, and some declare their end token as `<unk>`, which does not count.
    """
    unknown = tokenizer.unk_token_id
    return None if unknown is None or unknown in (tokenizer.eos_token_id, tokenizer.bos_token_id) else int(unknown)


def knows_all_characters(tokenizer: Any) -> bool:
    """Whether every character has tokens, as in byte-level vocabularies and those with byte fallback."""
    ids = _ids(tokenizer, _RARE)
    return bool(ids) and unknown_id(tokenizer) not in ids


def unknown_characters(tokenizer: Any, texts: Iterable[str]) -> dict[str, int]:
    """Character → count, for the characters of these texts without a token, the most frequent first.

    A vocabulary with `<unk>` puts it in their place; one without leaves them out.
    """
    specials, unknown = _specials(tokenizer, len(tokenizer)), unknown_id(tokenizer)
    counts = Counter(character for text in texts for character in specials.sub("", text))

    def lost(character: str) -> bool:
        ids = _ids(tokenizer, character)
        return unknown in ids if unknown is not None else not ids and not character.isspace()

    return {character: count for character, count in counts.most_common() if lost(character)}


def _decode(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def render(tokenizer: Any, turns: list[dict[str, str]]) -> str:
    """A conversation as the template writes it, with the generation prompt unless it ends with the assistant.

    Raises:
        jinja2.TemplateError: the template refuses it.
    """
    unanswered = turns[-1]["role"] != "assistant"
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=unanswered))


def _render(tokenizer: Any, messages: list[tuple[str, str]]) -> str:
    try:
        return render(tokenizer, [{"role": role, "content": content} for role, content in messages])
    except TemplateError as error:
        raise WorkbenchError(
            "chat template of the base",
            f"it refuses a conversation of {', '.join(role for role, _ in messages)}: {error}",
            remedy="alternate user and assistant, and put the text of a system message into the first user turn",
        ) from None


@lru_cache(maxsize=32)
def _frame(tokenizer: Any, template: str, roles: tuple[str, ...]) -> tuple[str, str]:
    """A short prompt of these roles, and the text between a prompt and its response (mostly one space)."""
    mark = "\ue002"
    messages = [(role, "x") for role in roles]
    opening = _render(tokenizer, messages)
    whole = _render(tokenizer, [*messages, ("assistant", mark)])
    lead = whole[len(opening) : whole.index(mark)] if whole.startswith(opening) else ""
    return opening, lead


@lru_cache(maxsize=32)
def _specials(tokenizer: Any, count: int) -> re.Pattern[str]:
    """Matches the text of any special token; `count`, the vocabulary size, keeps the cache current."""
    tokens = {str(token) for token in tokenizer.all_special_tokens}
    tokens |= {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    return re.compile("|".join(re.escape(token) for token in sorted(tokens, key=len, reverse=True)) or r"(?!)")


def _hide(tokenizer: Any, content: str, hidden: list[str]) -> str:
    """Replace text that looks like a special token by a placeholder, and append the text to `hidden`."""

    def note(match: re.Match[str]) -> str:
        hidden.append(match.group())
        return _HIDDEN.format(len(hidden) - 1)

    return _specials(tokenizer, len(tokenizer)).sub(note, content)


def _encode(tokenizer: Any, text: str, hidden: list[str]) -> list[int]:
    """Ids of rendered text: the template's special tokens become their ids, hidden text is tokenised as text."""
    if not hidden:
        return _ids(tokenizer, text)
    ids: list[int] = []
    pattern, position = _specials(tokenizer, len(tokenizer)), 0
    while position < len(text):
        match = pattern.search(text, position)
        plain = text[position : match.start() if match else len(text)]
        for number, original in enumerate(hidden):
            plain = plain.replace(_HIDDEN.format(number), original)
        if plain:
            ids += _encode_plain(tokenizer, plain, first=not ids)
        if match:
            ids.append(tokenizer.convert_tokens_to_ids(match.group()))
        position = match.end() if match else len(text)
    return ids


def _encode_plain(tokenizer: Any, text: str, *, first: bool) -> list[int]:
    """Ids of text without special tokens, as part of a longer text.

    Some tokenizers put a space before the first word of a text, others before the first word after each special
    token. A leading newline keeps the first kind from adding a space in the middle of a text.
    """
    if first or _starts_afresh(tokenizer):
        return _ids(tokenizer, text, split_special_tokens=True)
    before = _ids(tokenizer, "\n")
    return _ids(tokenizer, "\n" + text, split_special_tokens=True)[len(before) :]


@lru_cache(maxsize=32)
def _starts_afresh(tokenizer: Any) -> bool:
    return _ids(tokenizer, tokenizer.eos_token + "a")[1:] == _ids(tokenizer, "a")


def _ids(tokenizer: Any, text: str, **options: bool) -> list[int]:
    """The tokenizer's ids of a text, without added tokens and without its warning about long texts."""
    return list(tokenizer(text, add_special_tokens=False, verbose=False, **options)["input_ids"])
