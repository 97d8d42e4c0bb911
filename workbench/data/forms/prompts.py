"""Columns that make a prompt: the question, its input, earlier turns, a system text."""

from collections.abc import Mapping
from typing import Any

from workbench.data.files.row import Row
from workbench.data.forms.example import PromptColumns
from workbench.data.forms.fields import (
    Messages,
    alternating,
    ends_with_user,
    messages_of,
    not_blank,
    optional_text,
    prompt_of,
    short,
    text_of,
)
from workbench.data.forms.transcripts import conversation_turns
from workbench.data.records import Message

SYSTEM = ("system", "system_prompt", "system_message")
INPUT = ("input", "context")
CONVERSATIONS = ("messages", "conversations", "conversation")


def _question(row: Row, name: str) -> Messages:
    """The system text, the earlier turns, then the question and its input."""
    if name == "instruction":  # always text, even if it looks like a transcript
        prompt: Messages = (Message(role="user", content=not_blank(row, name, text_of(row, name))),)
    else:
        prompt = prompt_of(row, name)
    return with_system(row, _with_history(row, _with_input(row, name, prompt)))


def _with_input(row: Row, name: str, prompt: Messages) -> Messages:
    """Alpaca's form: the question, a blank line, the input. Messages in `context` go before the question."""
    for column in INPUT:
        value = row.fields.get(column)
        if column == name or value is None:
            continue
        if isinstance(value, list | tuple) and value and all(isinstance(entry, Mapping) for entry in value):
            prompt = (*messages_of(row, column), *prompt)
        elif text_of(row, column).strip():
            if len(prompt) != 1:
                raise row.fail(
                    f"{column!r} cannot be joined to a {name!r} of {len(prompt)} turns",
                    expected=f"{name!r} as plain text, since {column!r} is joined to it",
                    remedy=f"write the text into {name!r}, or skip the column: data.ignore=[{column}]",
                )
            prompt = (Message(role="user", content=f"{prompt[0].content}\n\n{text_of(row, column)}"),)
    return prompt


def _with_history(row: Row, prompt: Messages) -> Messages:
    """The prompt after its earlier turns: pairs of texts, messages, alternating texts, or a transcript."""
    value = row.fields.get("history")
    empty = value is None or value == [] or (isinstance(value, str) and value.strip() in ("", "[]"))
    return prompt if empty else (*_history(row, value), *prompt)


def _history(row: Row, value: Any) -> Messages:
    if isinstance(value, str):
        turns = conversation_turns(value)
        if turns is not None:
            return turns
    elif isinstance(value, list | tuple) and all(isinstance(entry, Mapping) for entry in value):
        return messages_of(row, "history")
    elif isinstance(value, list | tuple):
        texts = [text for entry in value for text in (entry if isinstance(entry, list | tuple) else [entry])]
        if len(texts) % 2 == 0 and all(isinstance(text, str) for text in texts):
            return alternating(texts)
    raise row.fail(f"'history' is {short(value)}", expected="pairs of [question, answer], or messages")


def with_system(row: Row, prompt: Messages) -> Messages:
    """The prompt after the system text that another column holds."""
    text = optional_text(row, *SYSTEM)
    if not text:
        return prompt
    if prompt and prompt[0].role == "system":
        if prompt[0].content.strip() == text.strip():
            return prompt
        raise row.fail("two system messages: one in the prompt, one in another column", expected="one")
    return (Message(role="system", content=text), *prompt)


def opening_of(row: Row, name: str) -> Messages:
    """The system text and the turns of a conversation up to the last turn of the user."""
    messages = with_system(row, messages_of(row, name))
    last = max((index for index, turn in enumerate(messages) if turn.role == "user"), default=-1)
    return ends_with_user(row, name, messages[: last + 1])


def _input_messages(row: Row) -> Messages:
    """The `input` of OpenAI's preference data: an object with messages; tools are refused."""
    value = row.fields["input"]
    if value.get("tools"):
        raise row.fail("a conversation with tools: 'input' has 'tools'", expected="turns that are text")
    return ends_with_user(row, "input", messages_of(Row(row.place, {"input": value.get("messages")}), "input"))


def _user_is_last(row: Row, name: str) -> bool:
    value = row.fields[name]
    last = value[-1] if isinstance(value, list | tuple) and value else None
    speaker = str(last.get("role", last.get("from", ""))).lower() if isinstance(last, Mapping) else ""
    return speaker in ("user", "human", "prompter")


def open_conversation(name: str) -> PromptColumns:
    """A conversation that ends with the user's turn."""
    return PromptColumns(
        (name,),
        when=lambda row: _user_is_last(row, name),
        read=lambda row: with_system(row, ends_with_user(row, name, messages_of(row, name))),
        may_have=SYSTEM,
    )


def question(name: str) -> PromptColumns:
    """A question as text or messages, with its input, the history and a system text in other columns."""
    others = (column for column in INPUT if column != name)
    return PromptColumns((name,), read=lambda row: _question(row, name), may_have=(*SYSTEM, *others, "history"))


def message_list(name: str) -> PromptColumns:
    """A list of messages in a column that may also hold text."""
    return PromptColumns(
        (name,),
        when=lambda row: isinstance(row.fields[name], list | tuple),
        read=lambda row: with_system(row, prompt_of(row, name)),
        may_have=SYSTEM,
    )


OPENAI_INPUT = PromptColumns(
    ("input",), when=lambda row: isinstance(row.fields["input"], Mapping), read=_input_messages
)
POST = PromptColumns(
    ("history",),
    when=lambda row: isinstance(row.fields["history"], str) and "human_ref_a" in row.fields,
    read=lambda row: prompt_of(row, "history"),
)
"""The post that the answers of the Stanford Human Preferences are about."""
