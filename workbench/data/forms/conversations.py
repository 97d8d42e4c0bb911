"""Rows that hold whole conversations: one to imitate, or two that end in different answers."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from workbench.data.files.row import Row
from workbench.data.forms.example import CATEGORIES, Example, Form
from workbench.data.forms.fields import (
    Messages,
    empty_row,
    ends_with_user,
    last_answer,
    messages_of,
    not_blank,
    prompt_of,
    text_of,
    text_prompt,
)
from workbench.data.forms.judgements import (
    ANNOTATORS,
    both_bad,
    good_of,
    judged_by,
    labelled_by,
    runs_of,
    strength_of,
    votes_of,
)
from workbench.data.forms.prompts import SYSTEM, opening_of, with_system
from workbench.data.forms.transcripts import conversation_turns
from workbench.data.records import Message

CUT = "the conversation was cut at its last answer, since it ends with another turn"
JOINED = "consecutive answers were joined"


def imitated(name: str) -> Form:
    """A conversation in one column; its last answer is imitated, and turns after it are cut."""
    return Form(
        (name,),
        prompt=lambda row: opening_of(row, name),
        example=lambda row: _imitated(row, name),
        may_have=("id", *SYSTEM),
        judged_by=lambda row: filter(None, (labelled_by(row),)),
    )


def _imitated(row: Row, name: str) -> Example:
    messages, given = with_system(row, messages_of(row, name)), row.fields[name]
    last = max((index for index, turn in enumerate(messages) if turn.role == "assistant"), default=-1)
    if last < 0:
        roles = ", ".join(turn.role for turn in messages)
        raise row.fail(f"{name!r} has only the turns {roles}", expected="at least one assistant message")
    if _untrained(given):
        raise empty_row(row, "the last answer has weight 0", "an answer to train on")
    notes = [CUT] if last < len(messages) - 1 else []
    notes += [JOINED] if _has_consecutive_answers(given) else []
    prompt = ends_with_user(row, name, messages[:last])
    return Example(prompt, (not_blank(row, name, messages[last].content),), good=good_of(row), notes=tuple(notes))


def _has_consecutive_answers(turns: Any) -> bool:
    speakers = [turn.get("role", turn.get("from")) for turn in turns if isinstance(turn, Mapping)]
    return any(a == b and str(a).lower() in ("assistant", "gpt", "bot") for a, b in pairwise(speakers))


def _untrained(turns: Any) -> bool:
    """Whether OpenAI's `weight: 0` excludes the last answer from training."""
    answers = [turn for turn in turns if isinstance(turn, Mapping) and turn.get("role") == "assistant"]
    return bool(answers) and answers[-1].get("weight") in (0, 0.0) and answers[-1].get("weight") is not None


def paired(names: tuple[str, str]) -> Form:
    """A better and a worse conversation, as messages or transcripts, without a prompt in another column."""
    return Form(
        names,
        prompt=lambda row: _paired(row, names).prompt,
        example=lambda row: _paired(row, names),
        may_have=("id", *SYSTEM, *CATEGORIES),
    )


def _paired(row: Row, names: tuple[str, str]) -> Example:
    sides: list[Messages] = []
    for name in names:
        if isinstance(row.fields[name], list | tuple | Mapping):
            sides.append(messages_of(row, name))
            continue
        turns = conversation_turns(text_of(row, name))
        if turns is None or len(turns) < 2:
            raise row.fail(
                "'prompt' is missing, and 'chosen' and 'rejected' share no prompt",
                expected="a 'prompt', or two transcripts that begin with the same '\\n\\nHuman: … \\n\\nAssistant:'",
            )
        sides.append(turns)
    return pair_of_conversations(row, names[0], *sides)


def pair_of_conversations(row: Row, name: str, first: Messages, second: Messages) -> Example:
    """Two conversations with the same prompt and different last answers; the first is the better one."""
    first, second = with_system(row, first), with_system(row, second)
    if first[:-1] != second[:-1]:
        problem = "the conversations differ before their last answer, so they do not answer the same prompt"
        raise empty_row(row, problem, "conversations that differ only in the last answer")
    prompt = ends_with_user(row, name, first[:-1])
    answers = last_answer(row, name, first[-1:]), last_answer(row, name, second[-1:])
    return Example(prompt, answers, strength=1.0, best_first=True)


def _battle(row: Row, name: str, first: Messages, second: Messages, columns: tuple[str, str]) -> Example:
    """Two conversations and which of them somebody preferred."""
    pair = pair_of_conversations(row, name, first, second)
    suffixes = ("_a", "_b")
    strength, bad = strength_of(row, columns, suffixes), both_bad(row, suffixes)
    votes, runs = votes_of(row, strength, suffixes), runs_of(row, suffixes)
    return Example(pair.prompt, pair.responses, strength, both_bad=bad, votes=votes, runs=runs)


def _battle_of_messages(row: Row) -> Example:
    first, second = ("conversation_a", "conversation_b")
    return _battle(row, first, messages_of(row, first), messages_of(row, second), (first, second))


def _first_question(row: Row) -> Messages:
    """The turns up to the first of the user; the two conversations may differ after it."""
    messages = messages_of(row, "conversation_a")
    first = next((index for index, turn in enumerate(messages) if turn.role == "user"), -1)
    return ends_with_user(row, "conversation_a", messages[: first + 1])


def _battle_of_texts(row: Row) -> Example:
    names = ("response_a", "response_b")
    asked, *lists = (list(row.fields[name]) for name in ("prompt", *names))
    if any(len(texts) != len(asked) for texts in lists):
        raise row.fail(
            f"'prompt' has {len(asked)} turns, the responses {len(lists[0])} and {len(lists[1])}",
            expected="one answer per turn",
        )
    first, second = (
        tuple(
            Message.model_validate({"role": role, "content": text or ""})
            for question, answer in zip(asked, texts, strict=True)
            for role, text in (("user", question), ("assistant", answer))
        )
        for texts in lists
    )
    return _battle(row, "prompt", first, second, names)


def _has_turns(row: Row) -> bool:
    columns = [row.fields[name] for name in ("prompt", "response_a", "response_b")]
    return all(isinstance(value, list | tuple) for value in columns) and len(columns[0]) > 1


_ABOUT = ("id", "model_a", "model_b", *CATEGORIES, *ANNOTATORS)
BATTLE = Form(
    ("conversation_a", "conversation_b"),
    prompt=_first_question,
    example=_battle_of_messages,
    may_have=_ABOUT,
    judged_by=lambda row: judged_by(row, ("_a", "_b")),
)
"""LMArena: two conversations that were compared."""
BATTLE_OF_TURNS = Form(
    ("prompt", "response_a", "response_b"),
    when=_has_turns,
    prompt=lambda row: prompt_of(Row(row.place, {"prompt": row.fields["prompt"][:1]}), "prompt"),
    example=_battle_of_texts,
    may_have=_ABOUT,
    judged_by=lambda row: judged_by(row, ("_a", "_b")),
)
"""LMArena: the same as three lists of texts, one entry per turn of the user."""


def _transcript(row: Row) -> Example:
    turns = conversation_turns(text_of(row, "text"))
    if turns is None:
        raise row.fail("'text' is not a conversation", expected="a transcript, such as '### Human: … ### Assistant: …'")
    prompt = ends_with_user(row, "text", turns[:-1])
    return Example(prompt, (not_blank(row, "text", turns[-1].content),))


def _is_transcript(row: Row) -> bool:
    value = row.fields["text"]
    return isinstance(value, str) and conversation_turns(value) is not None


TRANSCRIPT = Form(
    ("text",),
    when=_is_transcript,
    prompt=lambda row: _transcript(row).prompt,
    example=_transcript,
    may_have=("id",),
)
TEXT = Form(("text",), prompt=lambda row: text_prompt(row, "text"), may_have=("id", "label"))
"""A prompt alone."""
