"""Columns that hold answers: one, a chosen and a rejected one, two to compare, a list. Each reader is pure."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from workbench.data.files.row import Row
from workbench.data.forms.conversations import of_conversations
from workbench.data.forms.example import CATEGORIES, AnswerPart, Example
from workbench.data.forms.fields import Messages, answer_of, messages_of, not_blank, short
from workbench.data.forms.judgements import (
    good_of,
    judged_by,
    labelled_by,
    listed_rating,
    rated_by,
    rating_of,
    strength_of,
)
from workbench.data.forms.transcripts import conversation_turns

ITEM_FIELDS = ("id", "group", "round", "priority", "known_strength")
REPEATED = "the answer repeated the prompt, which was taken off"
BEGINS = "the answer begins with the prompt"
_LONG = 20
"""Characters of a prompt from which two answers that begin with it repeat it; a greeting may be answered by itself."""


def one(name: str) -> AnswerPart:
    """One answer, perhaps marked as good or bad, or rated."""

    def read(row: Row, prompt: Messages) -> Example:
        text, repeated = without_transcript(row, prompt, name, answer_of(row, name))
        text = not_blank(row, name, text.removeprefix(" ") if name == "completion" or repeated else text)
        notes = (REPEATED,) if repeated else (BEGINS,) if _begins_with(prompt, text) else ()
        rating = None if labelled_by(row) else rating_of(row)
        ratings = () if rating is None else (rating,)
        return Example(prompt, (text,), ratings=ratings, good=good_of(row), notes=notes)

    def judged(row: Row) -> Iterable[str]:
        return filter(None, (labelled_by(row) or rated_by(row),))

    def is_one(row: Row) -> bool:
        return name != "output" or not _several(row.fields[name])

    return AnswerPart((name,), read, judged, ("id",), is_one)


def _several(value: Any) -> bool:
    """Whether a column of one answer holds several texts (an older notation of pairs)."""
    return isinstance(value, list | tuple) and len(value) > 1 and all(isinstance(text, str) for text in value)


def without_transcript(row: Row, prompt: Messages, name: str, text: str) -> tuple[str, bool]:
    """An answer without the conversation that it repeats as a transcript, and whether it did.

    Raises:
        WorkbenchError: it is a transcript of another conversation.
    """
    turns = conversation_turns(text)
    if turns is None or not turns[:-1]:
        return text, False
    said, asked = ([(turn.role, turn.content.strip()) for turn in part] for part in (turns[:-1], prompt))
    if said == asked[-len(said) :] or said[-len(asked) :] == asked:
        return turns[-1].content, True
    if not text.startswith("\n\nHuman:"):
        return text, False
    raise row.fail(
        f"{name!r} is a transcript of another conversation than the prompt: {short(text)}",
        expected="an answer alone, or a transcript that begins with the prompt",
    )


def _begins_with(prompt: Messages, text: str) -> bool:
    """Whether an answer begins with the user's words and goes on."""
    asked = prompt[-1].content.strip() if prompt else ""
    return bool(asked) and text.strip().startswith(asked) and text.strip() != asked


def pair(chosen: str, rejected: str) -> AnswerPart:
    """A better and a worse answer, as texts, messages, conversations or transcripts."""

    def read(row: Row, prompt: Messages) -> Example:
        values = row.fields[chosen], row.fields[rejected]
        if any(isinstance(value, list | tuple) and len(value) > 1 for value in values):
            first, second = messages_of(row, chosen), messages_of(row, rejected)
            if len(first) > 1 or len(second) > 1:
                return of_conversations(row, chosen, first, second)
        texts, repeated = zip(
            *(without_transcript(row, prompt, name, answer_of(row, name)) for name in (chosen, rejected)), strict=True
        )
        notes = [REPEATED] if any(repeated) else []
        if all(_begins_with(prompt, text) for text in texts):
            asked = prompt[-1].content.strip()
            notes.append(REPEATED if len(asked) >= _LONG else BEGINS)
            texts = tuple(t.strip().removeprefix(asked).lstrip("\n") if len(asked) >= _LONG else t for t in texts)
        texts = tuple(text.removeprefix(" ") for text in texts)
        not_blank(row, chosen, texts[0])
        return Example(prompt, texts, strength=1.0, notes=tuple(dict.fromkeys(notes)))

    return AnswerPart((chosen, rejected), read, may_have=("id", "group", *CATEGORIES))


def compared(columns: tuple[str, str], suffixes: tuple[str, str]) -> AnswerPart:
    """Two answers, and a judgement where the row has one."""

    def read(row: Row, prompt: Messages) -> Example:
        texts = tuple(answer_of(row, name) for name in columns)
        runs = tuple(str(row.fields.get(f"model{suffix}", "")) for suffix in suffixes)
        own = item_fields(row)
        strength = strength_of(row, columns, suffixes)
        return Example(prompt, texts, strength, runs=runs if any(runs) else (), own=own)

    def judged(row: Row) -> tuple[str, ...]:
        return judged_by(row, suffixes)

    may_have = (*ITEM_FIELDS, *CATEGORIES, *(f"model{suffix}" for suffix in suffixes))
    return AnswerPart(columns, read, judged, may_have)


def item_fields(row: Row) -> dict[str, Any]:
    """The fields of an item to label that a row brings along."""
    return {name: row.fields[name] for name in ITEM_FIELDS if str(row.fields.get(name, "")).strip()}


def listed(name: str) -> AnswerPart:
    """A list of answers, as texts or as objects with the text, its model and its rank or rating."""

    def read(row: Row, prompt: Messages) -> Example:
        entries = _entries(row, name)
        texts = [_text_of_entry(entry) for entry in entries]
        if len(texts) < 2 or any(text is None for text in texts):
            raise row.fail(f"{name!r} is {short(row.fields[name])}", expected="a list of at least two texts")
        objects = [entry for entry in entries if isinstance(entry, Mapping)]
        objects = objects if len(objects) == len(entries) else []
        ratings = [listed_rating(entry) for entry in objects]
        rated = bool(ratings) and all(rating is not None for rating in ratings)
        own = item_fields(row)
        runs = tuple(str(entry.get("model") or entry.get("run") or "") for entry in objects)
        return Example(
            prompt,
            tuple(str(text) for text in texts),
            ratings=tuple(rating for rating in ratings if rating is not None) if rated else (),
            runs=runs if any(runs) else (),
            own=own,
        )

    return AnswerPart((name,), read, may_have=ITEM_FIELDS)


def _entries(row: Row, name: str) -> list[Any]:
    """The list itself; in CSV it may be written as JSON."""
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


def _output_pair(row: Row, prompt: Messages) -> Example:
    """An older notation of pairs: `output` is a list of the better and the worse answer."""
    texts = tuple(row.fields["output"])
    if len(texts) != 2:
        raise row.fail(f"'output' is a list of {len(texts)} texts", expected="the better and the worse answer")
    return Example(prompt, texts, strength=1.0)


_SUFFIXES = (("_a", "_b"), ("_1", "_2"), ("1", "2"), ("_0", "_1"))
_COMPARED = ("response", "answer", "output", "completion")
PAIRS = (
    ("chosen", "rejected"),
    ("preferred_output", "non_preferred_output"),
    ("chosen_response", "rejected_response"),
    ("preferred", "rejected"),
    ("response_chosen", "response_rejected"),
)
ANSWERS: tuple[AnswerPart, ...] = (
    *(pair(*names) for names in PAIRS),
    *(compared((f"{name}{s[0]}", f"{name}{s[1]}"), s) for name in _COMPARED for s in _SUFFIXES),
    compared(("human_ref_a", "human_ref_b"), ("_a", "_b")),
    listed("responses"),
    listed("answers"),
    listed("completions"),
    AnswerPart(("output",), _output_pair, when=lambda row: _several(row.fields["output"])),
    one("response"),
    one("completion"),
    one("output"),
    one("answer"),
    one("assistant"),
)
"""In this order: of two that a row has, the first counts."""
