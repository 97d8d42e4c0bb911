"""One field of a row as text, number, messages or prompt, in every notation that is read. Knows no form and no file."""

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.data.files.row import Row
from workbench.data.forms.transcripts import prompt_turns
from workbench.data.records import Message
from workbench.run.errors import WorkbenchError, did_you_mean

Messages = tuple[Message, ...]
MESSAGE = '{"role": "user", "content": "…"}'
ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "bot", "chatbot", "chatgpt", "model", "ai"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
"""Names of speakers → our roles."""
TOOL_ROLES = ("tool", "function", "observation", "function_call", "tool_call", "tool_response", "ipython")
TOOL_KEYS = ("tool_calls", "function_call")


class EmptyRow(WorkbenchError):
    """A well-formed row that teaches nothing: an empty answer, or two identical answers."""


class SetAside(WorkbenchError):
    """A valid row that the purpose does not use, such as an answer marked as bad. It is counted, and not an error."""


def empty_row(row: Row, problem: str, expected: str) -> EmptyRow:
    """The error for a row that teaches nothing."""
    return EmptyRow(row.place, problem, expected=expected, remedy="delete or fix the row")


def text_of(row: Row, name: str) -> str:
    """A field that must be text, perhaps empty; null is empty."""
    return _text(row, name, "" if name in row.nulls else row.fields[name])


def optional_text(row: Row, *names: str) -> str:
    """The first text among these columns that is not blank, else an empty text."""
    return next((text for name in names if name in row.fields and (text := text_of(row, name)).strip()), "")


def _text(row: Row, name: str, value: object) -> str:
    if not isinstance(value, str):
        raise row.fail(f"{name!r} is {_kind(value)}: {short(value)}", expected=f"{name!r} as text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        broken = value[error.start : error.end]
        raise row.fail(f"{name!r} holds half a character: {broken!r}", expected="valid Unicode") from None
    return value


def not_blank(row: Row, name: str, text: str) -> str:
    """The text, or an error if it is empty or blank."""
    if not text.strip():
        raise empty_row(row, f"{name!r} is empty", f"some text in {name!r}")
    return text


def number_of(row: Row, name: str) -> float:
    """A field that must be a number, perhaps written as text."""
    value = row.fields[name]
    try:
        return float(value)
    except (TypeError, ValueError):
        raise row.fail(f"{name!r} is {short(value)}", expected="a number") from None


def messages_of(row: Row, name: str) -> Messages:
    """A field that must be a message or a list of them, in OpenAI's or ShareGPT's notation.

    Consecutive assistant messages are joined by a blank line.
    """
    value = row.fields.get(name)
    if isinstance(value, Mapping):
        value = [value]
    if value is None or value == "":
        raise empty_row(row, f"{name!r} is empty", f"at least one {MESSAGE}")
    if not isinstance(value, list | tuple):
        raise row.fail(f"{name!r} is {_kind(value)}: {short(value)}", expected=f"{name!r} as a list of {MESSAGE}")
    if not value:
        raise row.fail(f"{name!r} is an empty list", expected=f"at least one {MESSAGE}")
    return joined([_message(row, f"{name}[{index}]", turn) for index, turn in enumerate(value)])


def joined(messages: Sequence[Message]) -> Messages:
    """Messages with consecutive assistant messages joined."""
    result: list[Message] = []
    for message in messages:
        if result and result[-1].role == message.role == "assistant":
            texts = [text for text in (result.pop().content, message.content) if text.strip()]
            message = Message(role="assistant", content="\n\n".join(texts))
        result.append(message)
    return tuple(result)


def _message(row: Row, name: str, turn: Any) -> Message:
    if not isinstance(turn, Mapping):
        raise row.fail(f"{name!r} is {_kind(turn)}: {short(turn)}", expected=MESSAGE)
    keys = ("from", "value") if "from" in turn and "value" in turn else ("role", "content")
    role = turn.get(keys[0])
    _refuse_tools(row, name, turn, role)
    for key in keys:
        if key in turn and turn[key] is None:
            raise empty_row(row, f"'{name}.{key}' is empty", MESSAGE)
        if key not in turn:
            others = [str(other) for other in turn if other not in keys] if set(keys) & set(turn) else []
            raise row.fail(
                f"{name!r} has no {key!r}; it has {', '.join(map(str, turn)) or 'nothing'}",
                expected=MESSAGE,
                remedy=f"rename {others[0]!r} to {key!r}" if len(others) == 1 else None,
            )
    known = ROLES.get(str(role).strip().lower())
    if known is None:
        raise row.fail(
            f"'{name}.{keys[0]}' is {role!r}", expected=", ".join(ROLES), remedy=did_you_mean(str(role), ROLES)
        )
    return Message.model_validate({"role": known, "content": _content(row, f"{name}.{keys[1]}", turn[keys[1]])})


def _refuse_tools(row: Row, name: str, turn: Mapping[str, Any], role: object) -> None:
    """Our messages cannot hold tool calls, and a conversation must not lose them silently."""
    used = next((key for key in TOOL_KEYS if turn.get(key)), None)
    if used or str(role).strip().lower() in TOOL_ROLES:
        raise row.fail(
            f"a conversation with tools: {name!r} " + (f"has {used!r}" if used else f"is from {role!r}"),
            expected="turns of system, user and assistant that are text",
            remedy="write calls and results into the text of the turns, or skip these rows: data.bad_rows=skip",
        )


def _content(row: Row, name: str, content: object) -> str:
    """The text of a message; a list of text parts is joined by newlines."""
    if not isinstance(content, list | tuple):
        return _text(row, name, content)
    parts = []
    for index, part in enumerate(content):
        text = part.get("text") if isinstance(part, Mapping) and part.get("type", "text") == "text" else part
        if not isinstance(text, str):
            kind = part.get("type") if isinstance(part, Mapping) else _kind(part)
            raise row.fail(f"a part that is not text: '{name}[{index}]' is {kind!r}", expected="parts of type 'text'")
        parts.append(_text(row, f"{name}[{index}]", text))
    return "\n".join(parts)


def ends_with_user(row: Row, name: str, prompt: Messages) -> Messages:
    """The prompt, or an error if it does not end with a user message that says something."""
    last = prompt[-1].role if prompt else "nothing"
    if last != "user":
        raise row.fail(f"{name!r} ends with {last!r}", expected="a prompt that ends with a user message")
    not_blank(row, name, prompt[-1].content)
    return prompt


def prompt_of(row: Row, name: str) -> Messages:
    """A prompt in any notation: messages, alternating texts that begin with the user's, a transcript, or plain text."""
    value = row.fields.get(name)
    if isinstance(value, list | tuple) and value and all(isinstance(turn, str) for turn in value):
        return ends_with_user(row, name, alternating(value))
    if isinstance(value, list | tuple | Mapping):
        return ends_with_user(row, name, messages_of(row, name))
    return text_prompt(row, name)


def text_prompt(row: Row, name: str) -> Messages:
    """A prompt as text: the turns of a transcript, or else one turn of the user."""
    text = text_of(row, name)
    turns = prompt_turns(text)
    return ends_with_user(row, name, (Message(role="user", content=text),) if turns is None else turns)


def alternating(texts: Sequence[str]) -> Messages:
    """Texts as turns of user and assistant, the user first."""
    return tuple(Message(role="assistant" if n % 2 else "user", content=text) for n, text in enumerate(texts))


def last_answer(row: Row, name: str, messages: Messages) -> str:
    """The text of messages that must be one assistant message."""
    if len(messages) != 1 or messages[0].role != "assistant":
        roles = ", ".join(message.role for message in messages)
        raise row.fail(f"{name!r} has the turns {roles}", expected="one assistant message")
    return messages[0].content


def answer_of(row: Row, name: str) -> str:
    """An answer as text, as one message, or as a list of one text; it may be empty.

    Transcripts put a space before an answer; the caller removes it where its form has one.
    """
    value = row.fields.get(name)
    if isinstance(value, list | tuple) and len(value) == 1 and (isinstance(value[0], str) or value[0] is None):
        return value[0] or ""
    if isinstance(value, list | tuple) and value and all(isinstance(text, str) for text in value):
        raise row.fail(f"{name!r} is a list of {len(value)} texts: {short(value)}", expected="one answer, as text")
    if isinstance(value, list | tuple | Mapping):
        return last_answer(row, name, messages_of(row, name))
    return text_of(row, name)


def _kind(value: object) -> str:
    names = {"str": "text", "int": "a number", "float": "a number", "bool": "true or false"}
    return names.get(type(value).__name__, f"a {type(value).__name__}")


def short(value: object) -> str:
    """A value as error messages show it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
