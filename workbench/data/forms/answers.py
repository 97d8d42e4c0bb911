"""Columns that hold answers: one, a better and a worse one, two to compare, or a list."""

import json
from collections.abc import Mapping
from typing import Any

from workbench.data.files.row import Row
from workbench.data.forms.conversations import pair_of_conversations
from workbench.data.forms.example import CATEGORIES, AnswerColumns, Example
from workbench.data.forms.fields import Messages, answer_of, messages_of, not_blank, short
from workbench.data.forms.judgements import (
    ANNOTATORS,
    both_bad,
    good_of,
    judged_by,
    labelled_by,
    listed_rating,
    rated_by,
    rating_of,
    runs_of,
    strength_of,
    votes_of,
)
from workbench.data.forms.transcripts import conversation_turns

ITEM_FIELDS = ("id", "group", "round", "priority", "known_strength", "kind", "why")
REPEATED = "the answer repeated the prompt, which was removed"
BEGINS = "the answer begins with the prompt"
_LONG = 20
"""Characters of a prompt from which two answers that begin with it repeat it. A short one may be an answer itself."""


def one(name: str) -> AnswerColumns:
    """One answer, which may be marked as good or bad, or rated."""

    def read(row: Row, prompt: Messages) -> Example:
        text, repeated = _without_transcript(row, prompt, name, answer_of(row, name))
        text = not_blank(row, name, text.removeprefix(" ") if name == "completion" or repeated else text)
        notes = (REPEATED,) if repeated else (BEGINS,) if _begins_with(prompt, text) else ()
        rating = None if labelled_by(row) else rating_of(row)
        ratings = () if rating is None else (rating,)
        return Example(prompt, (text,), ratings=ratings, good=good_of(row), notes=notes)

    return AnswerColumns(
        (name,),
        when=lambda row: name != "output" or not _several_texts(row.fields[name]),
        read=read,
        may_have=("id",),
        judged_by=lambda row: filter(None, (labelled_by(row) or rated_by(row),)),
    )


def pair(chosen: str, rejected: str) -> AnswerColumns:
    """A better and a worse answer, as texts, messages, conversations or transcripts."""

    def read(row: Row, prompt: Messages) -> Example:
        values = row.fields[chosen], row.fields[rejected]
        if any(isinstance(value, list | tuple) and len(value) > 1 for value in values):
            first, second = messages_of(row, chosen), messages_of(row, rejected)
            if len(first) > 1 or len(second) > 1:
                return pair_of_conversations(row, chosen, first, second)
        texts, repeated = zip(
            *(_without_transcript(row, prompt, name, answer_of(row, name)) for name in (chosen, rejected)), strict=True
        )
        notes = [REPEATED] if any(repeated) else []
        if all(_begins_with(prompt, text) for text in texts):
            asked = prompt[-1].content.strip()
            notes.append(REPEATED if len(asked) >= _LONG else BEGINS)
            texts = tuple(t.strip().removeprefix(asked).lstrip("\n") if len(asked) >= _LONG else t for t in texts)
        texts = tuple(text.removeprefix(" ") for text in texts)
        not_blank(row, chosen, texts[0])
        return Example(prompt, texts, strength=1.0, best_first=True, notes=tuple(dict.fromkeys(notes)))

    return AnswerColumns((chosen, rejected), read=read, may_have=("id", "group", *CATEGORIES))


def compared(columns: tuple[str, str], suffixes: tuple[str, str]) -> AnswerColumns:
    """Two answers, with a judgement if the row has one."""

    def read(row: Row, prompt: Messages) -> Example:
        texts = tuple(answer_of(row, name) for name in columns)
        strength, bad = strength_of(row, columns, suffixes), both_bad(row, suffixes)
        votes, runs = votes_of(row, strength, suffixes), runs_of(row, suffixes)
        return Example(prompt, texts, strength, both_bad=bad, votes=votes, runs=runs, own=_item_fields(row))

    may_have = (*ITEM_FIELDS, *CATEGORIES, *ANNOTATORS, *(f"model{suffix}" for suffix in suffixes))
    return AnswerColumns(columns, read=read, may_have=may_have, judged_by=lambda row: judged_by(row, suffixes))


def listed(name: str) -> AnswerColumns:
    """A list of answers, as texts or as objects with the text, its model, and its rank or rating."""

    def read(row: Row, prompt: Messages) -> Example:
        entries = _entries(row, name)
        texts = tuple(text for entry in entries if (text := _text_of_entry(entry)) is not None)
        if len(texts) < 2 or len(texts) < len(entries):
            raise row.fail(f"{name!r} is {short(row.fields[name])}", expected="a list of at least two texts")
        objects = entries if all(isinstance(entry, Mapping) for entry in entries) else []
        runs = tuple(str(entry.get("model") or entry.get("run") or "") for entry in objects)
        ratings = tuple(rating for entry in objects if (rating := listed_rating(entry)) is not None)
        return Example(
            prompt,
            texts,
            ratings=ratings if len(ratings) == len(entries) else (),
            runs=runs if any(runs) else (),
            own=_item_fields(row),
        )

    return AnswerColumns((name,), read=read, may_have=ITEM_FIELDS)


def _output_pair(row: Row, prompt: Messages) -> Example:
    texts = tuple(row.fields["output"])
    if len(texts) != 2:
        raise row.fail(f"'output' is a list of {len(texts)} texts", expected="the better and the worse answer")
    return Example(prompt, texts, strength=1.0, best_first=True)


def _several_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 1 and all(isinstance(text, str) for text in value)


OUTPUT_PAIR = AnswerColumns(("output",), when=lambda row: _several_texts(row.fields["output"]), read=_output_pair)
"""LLaMA-Factory's older form of pairs: `output` lists the better and the worse answer."""


def _without_transcript(row: Row, prompt: Messages, name: str, text: str) -> tuple[str, bool]:
    """An answer without the conversation that it repeats as a transcript, and whether it repeated one.

    Raises:
        WorkbenchError: it is a transcript of another conversation.
    """
    turns = conversation_turns(text)
    if turns is None or not turns[:-1]:
        return text, False
    told, asked = ([(turn.role, turn.content.strip()) for turn in part] for part in (turns[:-1], prompt))
    if told == asked[-len(told) :] or told[-len(asked) :] == asked:
        return turns[-1].content, True
    if not text.startswith("\n\nHuman:"):
        return text, False
    raise row.fail(
        f"{name!r} is a transcript of a conversation other than the prompt: {short(text)}",
        expected="an answer alone, or a transcript that begins with the prompt",
    )


def _begins_with(prompt: Messages, text: str) -> bool:
    """Whether an answer begins with the user's words and continues after them."""
    asked = prompt[-1].content.strip() if prompt else ""
    return bool(asked) and text.strip().startswith(asked) and text.strip() != asked


def _item_fields(row: Row) -> dict[str, Any]:
    """The fields of an item to label that a row brings along."""
    return {name: row.fields[name] for name in ITEM_FIELDS if str(row.fields.get(name, "")).strip()}


def _entries(row: Row, name: str) -> list[Any]:
    """The list in a column; a text is read as JSON."""
    value = row.fields[name]
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise row.fail(f"{name!r} is text: {value[:60]!r}", expected="a list of texts") from None
    if not isinstance(value, list | tuple):
        raise row.fail(f"{name!r} is {short(value)}", expected="a list of at least two texts")
    return list(value)


def _text_of_entry(entry: Any) -> str | None:
    if isinstance(entry, Mapping):
        entry = next((entry[key] for key in ("text", "answer", "response", "content", "output") if key in entry), None)
    return entry if isinstance(entry, str) else None
