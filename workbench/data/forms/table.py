"""The table of forms, and which form a row is in.

A row holds a prompt and answers in columns of their own (`PROMPTS`, `ANSWERS`), or everything in one form (`WHOLE`,
`ALONE`). Tables are searched from the top. To read another form, add a row to a table (docs/data.md, "Adding a form").
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple, TypeVar

from workbench.data.files.cells import messages_in
from workbench.data.files.row import Row
from workbench.data.forms import answers, conversations, exports, feedback, own, prompts
from workbench.data.forms.example import AnswerColumns, Columns, Form, PromptColumns
from workbench.data.forms.prompts import CONVERSATIONS

PROMPTS: tuple[PromptColumns, ...] = (
    prompts.question("prompt"),
    prompts.question("instruction"),
    prompts.question("question"),
    prompts.question("query"),
    *map(prompts.open_conversation, CONVERSATIONS),
    prompts.message_list("context"),  # HelpSteer3
    prompts.OPENAI_INPUT,
    prompts.question("input"),
    prompts.question("user"),
    prompts.POST,
)
"""Columns that make a prompt; if a row has several, the first counts."""

PAIRS = (
    ("chosen", "rejected"),
    ("preferred_output", "non_preferred_output"),
    ("chosen_response", "rejected_response"),
    ("preferred", "rejected"),
    ("response_chosen", "response_rejected"),
)
"""Columns of a better and a worse answer."""
_COMPARED = ("response", "answer", "output", "completion")
_SUFFIXES = (("_a", "_b"), ("_1", "_2"), ("1", "2"), ("_0", "_1"))

ANSWERS: tuple[AnswerColumns, ...] = (
    *(answers.pair(*names) for names in PAIRS),
    *(answers.compared((f"{name}{s[0]}", f"{name}{s[1]}"), s) for name in _COMPARED for s in _SUFFIXES),
    answers.compared(("human_ref_a", "human_ref_b"), ("_a", "_b")),  # Stanford Human Preferences
    answers.compared(("left", "right"), ("_left", "_right")),  # Potato's data files
    answers.listed("responses"),
    answers.listed("answers"),
    answers.listed("completions"),
    answers.OUTPUT_PAIR,
    answers.one("response"),
    answers.one("completion"),
    answers.one("output"),
    answers.one("answer"),
    answers.one("assistant"),
)
"""Columns that hold the answers to a prompt; if a row has several, the first counts."""

WHOLE: tuple[Form, ...] = (
    own.PREFERENCE,
    own.ITEM,
    own.RATED_ANSWER,
    exports.label_studio(PROMPTS),
    exports.argilla(PROMPTS),
    exports.POTATO,
    feedback.OPEN_WEBUI,
    conversations.BATTLE,
    conversations.BATTLE_OF_TURNS,
)
"""Forms that are tried before prompt and answers in columns of their own."""

ALONE: tuple[Form, ...] = (
    *map(conversations.imitated, CONVERSATIONS),
    *map(conversations.paired, PAIRS),
    conversations.TRANSCRIPT,
)
"""Forms that are tried if a row has no prompt beside its answers."""

ONLY_PROMPT = conversations.TEXT
"""The form that is tried last, after a prompt without answers."""


def form_of(row: Row) -> Form | None:
    """The form of a row with canonical column names, or None."""
    may = _possible(frozenset(row.fields))
    if whole := _first(row, may.whole):
        return whole
    prompt = _first(row, may.prompts)
    taken = set(prompt.needs) if prompt else set()
    beside = _first(row, (columns for columns in may.answers if not taken & set(columns.needs)))
    if prompt and beside:
        return Form.of(prompt, beside)
    if alone := _first(row, may.alone):
        return alone
    return Form.of(prompt, None) if prompt else _first(row, may.only_prompt)


ColumnsT = TypeVar("ColumnsT", bound=Columns)


class _Possible(NamedTuple):
    """The rows of each table whose needed columns are present; their `when` is asked per row."""

    whole: tuple[Form, ...]
    prompts: tuple[PromptColumns, ...]
    answers: tuple[AnswerColumns, ...]
    alone: tuple[Form, ...]
    only_prompt: tuple[Form, ...]


@lru_cache(maxsize=256)
def _possible(names: frozenset[str]) -> _Possible:
    def among(table: Iterable[ColumnsT]) -> tuple[ColumnsT, ...]:
        return tuple(columns for columns in table if names.issuperset(columns.needs))

    return _Possible(among(WHOLE), among(PROMPTS), among(ANSWERS), among(ALONE), among([ONLY_PROMPT]))


def _first(row: Row, table: Iterable[ColumnsT]) -> ColumnsT | None:
    return next((columns for columns in table if columns.when(row)), None)


def canonical_name(name: str) -> str:
    """A column's name as the tables write it: lower case, with underscores."""
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def canonical(row: Row, ignore: frozenset[str]) -> Row:
    """A row with canonical names and without ignored columns; messages written as text are parsed.

    Two columns with the same canonical name (`Prompt`, `prompt`) keep the names they have.
    """
    names = [canonical_name(name) for name in row.fields]
    fields = {}
    for given, name in zip(row.fields, names, strict=True):
        if name in ignore or given in ignore:
            continue
        value = row.fields[given]
        fields[name if names.count(name) == 1 else given] = messages_in(value) if isinstance(value, str) else value
    nulls = frozenset(canonical_name(name) for name in row.nulls) - ignore - set(fields)
    return replace(row, fields=fields, nulls=nulls)
