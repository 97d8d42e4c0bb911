"""Whole conversations: one to imitate, or two that end in different answers. Each reader is pure."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from workbench.data.files.row import Row
from workbench.data.forms.example import CATEGORIES, Example, Form
from workbench.data.forms.fields import (
    Messages,
    ends_with_user,
    last_answer,
    messages_of,
    not_blank,
    prompt_of,
    text_of,
    worthless,
)
from workbench.data.forms.judgements import good_of, judged_by, labelled_by, strength_of
from workbench.data.forms.prompts import CONVERSATIONS, SYSTEM, opening_of, with_system
from workbench.data.forms.transcripts import conversation_turns, prompt_turns
from workbench.data.records import Message

CUT = "the conversation was cut at its last answer, since it ends with another turn"
JOINED = "answers in a row were joined to one"


def imitated(row: Row, name: str) -> Example:
    """A conversation whose last answer is imitated; turns after it are cut off."""
    messages = with_system(row, messages_of(row, name))
    last = max((index for index, turn in enumerate(messages) if turn.role == "assistant"), default=-1)
    if last < 0:
        roles = ", ".join(turn.role for turn in messages)
        raise row.fail(f"{name!r} holds the turns {roles}", expected="at least one assistant message")
    given = row.fields[name]
    notes = [CUT] if last < len(messages) - 1 else []
    notes += [JOINED] if _in_a_row(given) else []
    if _untrained(given):
        raise worthless(row, "the last answer has weight 0", "an answer to train on")
    prompt = ends_with_user(row, name, messages[:last])
    return Example(prompt, (not_blank(row, name, messages[last].content),), good=good_of(row), notes=tuple(notes))


def _in_a_row(turns: Any) -> bool:
    said = [turn.get("role", turn.get("from")) for turn in turns if isinstance(turn, Mapping)]
    return any(a == b and str(a).lower() in ("assistant", "gpt", "bot") for a, b in pairwise(said))


def _untrained(turns: Any) -> bool:
    """Whether OpenAI's `weight: 0` keeps the last answer out of training."""
    answers = [turn for turn in turns if isinstance(turn, Mapping) and turn.get("role") == "assistant"]
    return bool(answers) and answers[-1].get("weight") in (0, 0.0) and answers[-1].get("weight") is not None


def of_conversations(row: Row, name: str, first: Messages, second: Messages) -> Example:
    """Two whole conversations: their shared turns are the prompt, their last answers the pair."""
    first, second = with_system(row, first), with_system(row, second)
    if first[:-1] != second[:-1]:
        problem = "the conversations part before their last answer, so they do not answer the same prompt"
        raise worthless(row, problem, "conversations that differ in the last answer alone")
    prompt = ends_with_user(row, name, first[:-1])
    answers = last_answer(row, name, first[-1:]), last_answer(row, name, second[-1:])
    return Example(prompt, answers, strength=1.0)


def _paired(row: Row, names: tuple[str, str]) -> Example:
    """`chosen` and `rejected` without a prompt: conversations as messages or as transcripts."""
    sides: list[Messages] = []
    for name in names:
        value = row.fields[name]
        if isinstance(value, list | tuple | Mapping):
            sides.append(messages_of(row, name))
            continue
        turns = conversation_turns(text_of(row, name))
        if turns is None or len(turns) < 2:
            raise row.fail(
                "'prompt' is missing, and 'chosen' and 'rejected' share no prompt",
                expected="a 'prompt', or two transcripts that begin with the same '\\n\\nHuman: … \\n\\nAssistant:'",
            )
        sides.append(turns)
    return of_conversations(row, names[0], sides[0], sides[1])


def _battle(row: Row) -> Example:
    """Two conversations that were compared (LMArena)."""
    names = ("conversation_a", "conversation_b")
    example = of_conversations(row, names[0], messages_of(row, names[0]), messages_of(row, names[1]))
    return _judged(row, example.prompt, example.responses, names)


def _first_question(row: Row) -> Messages:
    """The turns up to the user's first: what follows differs between the two conversations."""
    messages = messages_of(row, "conversation_a")
    first = next((index for index, turn in enumerate(messages) if turn.role == "user"), -1)
    return ends_with_user(row, "conversation_a", messages[: first + 1])


def _judged(row: Row, prompt: Messages, answers: Sequence[str], names: tuple[str, str]) -> Example:
    suffixes = ("_a", "_b")
    runs = tuple(str(row.fields.get(f"model{suffix}", "")) for suffix in suffixes)
    return Example(prompt, tuple(answers), strength_of(row, names, suffixes), runs=runs if any(runs) else ())


def _battle_of_turns(row: Row) -> Example:
    """Two conversations as lists of texts, one for each turn of the user (LMArena)."""
    names = ("response_a", "response_b")
    asked, *lists = (list(row.fields[name]) for name in ("prompt", *names))
    if any(len(texts) != len(asked) for texts in lists):
        raise row.fail(
            f"'prompt' has {len(asked)} turns, the responses {len(lists[0])} and {len(lists[1])}",
            expected="an answer to each turn",
        )
    first, second = (
        tuple(
            Message.model_validate({"role": role, "content": text or ""})
            for question, answer in zip(asked, texts, strict=True)
            for role, text in (("user", question), ("assistant", answer))
        )
        for texts in lists
    )
    example = of_conversations(row, "prompt", first, second)
    return _judged(row, example.prompt, example.responses, names)


def _has_turns(row: Row) -> bool:
    columns = [row.fields[name] for name in ("prompt", "response_a", "response_b")]
    return all(isinstance(value, list | tuple) for value in columns) and len(columns[0]) > 1


def _of_text(row: Row) -> Example:
    """A transcript in a `text` column."""
    turns = conversation_turns(text_of(row, "text"))
    if turns is None:
        raise row.fail("'text' is no conversation", expected="a transcript, such as '### Human: … ### Assistant: …'")
    prompt = ends_with_user(row, "text", turns[:-1])
    return Example(prompt, (not_blank(row, "text", turns[-1].content),), good=None)


def _is_conversation(row: Row) -> bool:
    value = row.fields["text"]
    return isinstance(value, str) and conversation_turns(value) is not None


def _text_prompt(row: Row) -> Messages:
    text = text_of(row, "text")
    turns = prompt_turns(text)
    return ends_with_user(row, "text", (Message(role="user", content=text),) if turns is None else turns)


def _label(row: Row) -> tuple[str, ...]:
    name = labelled_by(row)
    return (name,) if name else ()


def _arena_columns(row: Row) -> tuple[str, ...]:
    return judged_by(row, ("_a", "_b"))


_ABOUT = ("id", "model_a", "model_b", *CATEGORIES)


def _imitated_form(name: str) -> Form:
    return Form((name,), lambda row: opening_of(row, name), lambda row: imitated(row, name), ("id", *SYSTEM), _label)


IMITATED: tuple[Form, ...] = tuple(_imitated_form(name) for name in CONVERSATIONS)
BATTLES: tuple[Form, ...] = (
    Form(
        ("conversation_a", "conversation_b"),
        _first_question,
        _battle,
        _ABOUT,
        _arena_columns,
    ),
    Form(
        ("prompt", "response_a", "response_b"),
        lambda row: prompt_of(Row(row.place, {"prompt": row.fields["prompt"][:1]}), "prompt"),
        _battle_of_turns,
        _ABOUT,
        _arena_columns,
        _has_turns,
    ),
)
TEXTS: tuple[Form, ...] = (
    Form(("text",), lambda row: _of_text(row).prompt, _of_text, ("id",), when=_is_conversation),
    Form(("text",), _text_prompt, None, ("id", "label")),
)


def paired(names: tuple[str, str]) -> Form:
    """A pair without a prompt of its own."""
    return Form(
        names, lambda row: _paired(row, names).prompt, lambda row: _paired(row, names), ("id", *SYSTEM, *CATEGORIES)
    )
