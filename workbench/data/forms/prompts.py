"""Columns that make a prompt: the question, its input, what was said before, a system text. Each reader is pure."""

from collections.abc import Mapping
from typing import Any

from workbench.data.files.row import Row
from workbench.data.forms.example import PromptPart
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


def question_of(row: Row, name: str) -> Messages:
    """A question with what stands in other columns: the system text, earlier turns, then the question and its input."""
    prompt = prompt_of(row, name) if name != "instruction" else (Message(role="user", content=_instruction(row)),)
    return with_system(row, _with_history(row, _with_input(row, name, prompt)))


def _instruction(row: Row) -> str:
    return not_blank(row, "instruction", text_of(row, "instruction"))


def _with_input(row: Row, name: str, prompt: Messages) -> Messages:
    """Alpaca's way: the question, a blank line, the input; messages as `context` stand before the question."""
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
                    expected=f"{name!r} as plain text beside {column!r}",
                    remedy=f"write the text into {name!r}, or leave the column unread: data.ignore=[{column}]",
                )
            prompt = (Message(role="user", content=f"{prompt[0].content}\n\n{text_of(row, column)}"),)
    return prompt


def _with_history(row: Row, prompt: Messages) -> Messages:
    """Turns that were said before: pairs of question and answer, messages, texts that alternate, or a transcript."""
    value = row.fields.get("history")
    if value is None or value in ("", [], "[]"):
        return prompt
    return (*_history(row, value), *prompt)


def _history(row: Row, value: Any) -> Messages:
    if isinstance(value, str) and value.strip():
        turns = conversation_turns(value)
        if turns is not None:
            return turns
    elif isinstance(value, list | tuple) and all(isinstance(entry, Mapping) for entry in value):
        return messages_of(row, "history")
    elif isinstance(value, list | tuple):
        texts = [text for entry in value for text in (entry if isinstance(entry, list | tuple) else [entry])]
        if len(texts) % 2 == 0 and all(isinstance(text, str) for text in texts):
            return alternating(texts)
    if isinstance(value, str) and not value.strip():
        return ()
    raise row.fail(f"'history' is {short(value)}", expected="pairs of [question, answer], or messages")


def with_system(row: Row, prompt: Messages) -> Messages:
    """A prompt behind the system text that stands in a column of its own."""
    text = optional_text(row, *SYSTEM)
    if not text:
        return prompt
    if prompt and prompt[0].role == "system":
        if prompt[0].content.strip() == text.strip():
            return prompt
        raise row.fail("two system messages: one in the prompt, one in a column of its own", expected="one")
    return (Message(role="system", content=text), *prompt)


def opening_of(row: Row, name: str) -> Messages:
    """The turns of a conversation up to the user's last, and the system text beside it."""
    messages = with_system(row, messages_of(row, name))
    last = max((index for index, turn in enumerate(messages) if turn.role == "user"), default=-1)
    return ends_with_user(row, name, messages[: last + 1])


def turns_before(row: Row, name: str) -> Messages:
    """A conversation that ends with the user's turn."""
    return with_system(row, ends_with_user(row, name, messages_of(row, name)))


def _input_messages(row: Row) -> Messages:
    """OpenAI's `input` of preference data: an object with messages, and tools that we do not have."""
    value = row.fields["input"]
    if value.get("tools"):
        raise row.fail("a conversation with tools: 'input' has 'tools'", expected="turns that are text")
    return ends_with_user(row, "input", messages_of(Row(row.place, {"input": value.get("messages")}), "input"))


def _user_is_last(name: str) -> PromptPart:
    def user_last(row: Row) -> bool:
        value = row.fields[name]
        last = value[-1] if isinstance(value, list | tuple) and value else None
        said = str(last.get("role", last.get("from", ""))).lower() if isinstance(last, Mapping) else ""
        return said in ("user", "human", "prompter")

    return PromptPart((name,), lambda row: turns_before(row, name), SYSTEM, user_last)


def _question(name: str) -> PromptPart:
    may_have = (*SYSTEM, *(column for column in INPUT if column != name), "history")
    return PromptPart((name,), lambda row: question_of(row, name), may_have)


def _is_list(name: str) -> PromptPart:
    return PromptPart(
        (name,),
        lambda row: with_system(row, prompt_of(row, name)),
        SYSTEM,
        lambda row: isinstance(row.fields[name], list | tuple),
    )


def _is_post(row: Row) -> bool:
    """Whether `history` is what the answers of the Stanford Human Preferences answer."""
    return isinstance(row.fields["history"], str) and "human_ref_a" in row.fields


PROMPTS: tuple[PromptPart, ...] = (
    _question("prompt"),
    _question("instruction"),
    _question("question"),
    _question("query"),
    *(_user_is_last(name) for name in CONVERSATIONS),
    _is_list("context"),
    PromptPart(("input",), _input_messages, when=lambda row: isinstance(row.fields["input"], Mapping)),
    _question("input"),
    _question("user"),
    PromptPart(("history",), lambda row: prompt_of(row, "history"), when=_is_post),
)
"""In this order: of two that a row has, the first is the prompt."""
