"""Single fields of a row: texts, messages, transcripts. Knows rows and messages, no form of file and no record."""

import re
from collections.abc import Sequence
from typing import Any, get_args

from workbench.data.records import Message
from workbench.data.sources import Row
from workbench.run.errors import WorkbenchError, did_you_mean

ROLES = get_args(Message.model_fields["role"].annotation)
HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"
_TURN = re.compile(r"\n\n(Human|Assistant):")
MESSAGE = '{"role": "user", "content": "…"}'


class WorthlessRow(WorkbenchError):
    """A row that is well formed but teaches nothing: an empty answer, or two answers that are the same."""


def worthless(row: Row, problem: str, expected: str) -> WorthlessRow:
    """The error for a row that teaches nothing."""
    return WorthlessRow(row.place, problem, expected=expected, remedy="delete the row, or mend it")


def text_of(row: Row, name: str) -> str:
    """A field that must be text. A text may be empty."""
    return _text(row, name, row.fields[name])


def _text(row: Row, name: str, value: object) -> str:
    if not isinstance(value, str):
        raise row.fail(f"{name!r} is {_kind(value)}: {_short(value)}", expected=f"{name!r} as text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        broken = value[error.start : error.end]
        raise row.fail(f"{name!r} holds half a character: {broken!r}", expected="valid Unicode") from None
    return value


def answer_of(row: Row, name: str) -> str:
    """A field that must be text with something in it."""
    return not_blank(row, name, text_of(row, name))


def not_blank(row: Row, name: str, text: str) -> str:
    """The text, or an error when it is empty or blank."""
    if not text.strip():
        raise worthless(row, f"{name!r} is empty", f"some text in {name!r}")
    return text


def messages_of(row: Row, name: str) -> tuple[Message, ...]:
    """A field that must be a list of messages."""
    value = row.fields[name]
    if not isinstance(value, list | tuple):
        raise row.fail(f"{name!r} is {_kind(value)}: {_short(value)}", expected=f"{name!r} as a list of {MESSAGE}")
    if not value:
        raise row.fail(f"{name!r} is an empty list", expected=f"at least one {MESSAGE}")
    return tuple(_message(row, f"{name}[{index}]", turn) for index, turn in enumerate(value))


def _message(row: Row, name: str, turn: Any) -> Message:
    if not isinstance(turn, dict):
        raise row.fail(f"{name!r} is {_kind(turn)}: {_short(turn)}", expected=MESSAGE)
    for key in ("role", "content"):
        if turn.get(key) is None:
            raise row.fail(
                f"{name!r} has no {key!r}; it has {', '.join(map(str, turn)) or 'nothing'}",
                expected=MESSAGE,
                remedy=_rename(key, [str(other) for other in turn if other not in ("role", "content")]),
            )
    if turn["role"] not in ROLES:
        raise row.fail(
            f"'{name}.role' is {turn['role']!r}",
            expected=", ".join(ROLES),
            remedy=did_you_mean(str(turn["role"]), ROLES),
        )
    return Message(role=turn["role"], content=_text(row, f"{name}.content", turn["content"]))


def _rename(wanted: str, found: Sequence[str]) -> str | None:
    return f"rename {found[0]!r} to {wanted!r}" if len(found) == 1 else None


def prompt_of(row: Row, name: str) -> tuple[Message, ...]:
    """A prompt in any shape: messages, a transcript (`\\n\\nHuman: … \\n\\nAssistant:`), or a user's plain text."""
    if isinstance(row.fields[name], list | tuple):
        return ends_with_user(row, name, messages_of(row, name))
    text = text_of(row, name)
    if is_transcript(text):
        return ends_with_user(row, name, transcript(text))
    return ends_with_user(row, name, (Message(role="user", content=text),))


def ends_with_user(row: Row, name: str, prompt: tuple[Message, ...]) -> tuple[Message, ...]:
    """The prompt, or an error when there is nothing in it to answer."""
    last = prompt[-1].role if prompt else "nothing"
    if last != "user":
        raise row.fail(f"{name!r} ends with {last!r}", expected="a prompt that ends with a user's message")
    not_blank(row, name, prompt[-1].content)
    return prompt


def is_transcript(text: str) -> bool:
    """Whether a text is a transcript of the form of HH-RLHF."""
    return text.startswith(HUMAN) or (HUMAN in text and text.rstrip().endswith(ASSISTANT))


def transcript(text: str) -> tuple[Message, ...]:
    """The messages of a transcript.

    What stands before the first turn is a system message, turns of one speaker in a row are one message, and open turns
    of the assistant at the end are dropped. The one space after `Human:` and `Assistant:` is taken off, all else kept.
    """
    before, *parts = _TURN.split(text)
    turns: list[tuple[str, str]] = []
    for speaker, content in zip(parts[::2], parts[1::2], strict=True):
        said = content.removeprefix(" ")
        if turns and turns[-1][0] == speaker:
            said = "\n\n".join(part for part in (turns.pop()[1], said) if part.strip())
        turns.append((speaker, said))
    if turns and turns[-1][0] == "Assistant" and not turns[-1][1].strip():
        turns.pop()
    messages = [Message(role="system", content=before.strip())] if before.strip() else []
    for speaker, said in turns:
        messages.append(Message(role="user" if speaker == "Human" else "assistant", content=said))
    return tuple(messages)


def part_transcripts(row: Row, chosen: str, rejected: str) -> tuple[str, str, str]:
    """Split two whole transcripts into their shared prompt and the two last answers."""
    both = zip(chosen, rejected, strict=False)
    shared = next((index for index, (a, b) in enumerate(both) if a != b), min(len(chosen), len(rejected)))
    end = chosen.rfind(ASSISTANT, 0, shared)
    if end < 0:
        raise row.fail(
            "'prompt' is missing, and 'chosen' and 'rejected' share no prompt",
            expected="a 'prompt', or two transcripts that begin with the same '\\n\\nHuman: … \\n\\nAssistant:'",
        )
    end += len(ASSISTANT)
    if HUMAN in chosen[end:] or HUMAN in rejected[end:]:
        problem = "the transcripts part before their last answer, so they do not answer the same prompt"
        raise worthless(row, problem, "transcripts that differ in the last answer alone")
    return chosen[:end], chosen[end:], rejected[end:]


def part_conversations(
    row: Row, chosen: tuple[Message, ...], rejected: tuple[Message, ...]
) -> tuple[tuple[Message, ...], str, str]:
    """Split two whole conversations into their shared prompt and the two last answers."""
    if chosen[:-1] != rejected[:-1]:
        problem = "the conversations part before their last answer, so they do not answer the same prompt"
        raise worthless(row, problem, "conversations that differ in the last answer alone")
    prompt = ends_with_user(row, "chosen", chosen[:-1])
    return prompt, last_answer(row, "chosen", chosen[-1:]), last_answer(row, "rejected", rejected[-1:])


def last_answer(row: Row, name: str, messages: tuple[Message, ...]) -> str:
    """The text of the one assistant message."""
    if len(messages) != 1 or messages[0].role != "assistant":
        roles = ", ".join(message.role for message in messages)
        raise row.fail(f"{name!r} holds the turns {roles}", expected="one assistant message")
    return messages[0].content


def _kind(value: object) -> str:
    names = {"str": "text", "int": "a number", "float": "a number", "bool": "true or false"}
    return names.get(type(value).__name__, f"a {type(value).__name__}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
