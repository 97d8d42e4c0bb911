"""Which form a row is in: whole forms first, then a prompt and answers that stand in columns of their own."""

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple, TypeVar

from workbench.data.files.cells import messages_in
from workbench.data.files.row import Row
from workbench.data.forms.answers import ANSWERS, PAIRS
from workbench.data.forms.conversations import BATTLES, IMITATED, TEXTS, paired
from workbench.data.forms.example import AnswerPart, Form, PromptPart
from workbench.data.forms.exports import EXPORTS
from workbench.data.forms.own import OWN
from workbench.data.forms.prompts import PROMPTS

PartT = TypeVar("PartT", Form, PromptPart, AnswerPart)
WHOLE: tuple[Form, ...] = (*OWN, *EXPORTS, *BATTLES)
"""Forms that are looked for before a prompt beside answers."""
ALONE: tuple[Form, ...] = (*IMITATED, *(paired(names) for names in PAIRS), TEXTS[0])
"""Forms whose columns hold prompt and answer together; looked for where no prompt stands beside answers."""


def form_of(row: Row) -> Form | None:
    """The form of a row with its columns as `canonical` names them, or None."""
    may = _possible(frozenset(row.fields))
    whole = _first(row, may.whole)
    if whole is not None:
        return whole
    prompt = next((part for part in may.prompts if part.when(row)), None)
    answers = next((part for part in may.answers if part.when(row) and not _same(prompt, part)), None)
    if prompt is not None and answers is not None:
        return Form.of(prompt, answers)
    alone = _first(row, may.alone)
    if alone is not None:
        return alone
    return Form.of(prompt, None) if prompt is not None else _first(row, may.texts)


class _Possible(NamedTuple):
    """The forms and parts whose columns a row has; whether its values fit is asked of each row."""

    whole: tuple[Form, ...]
    prompts: tuple[PromptPart, ...]
    answers: tuple[AnswerPart, ...]
    alone: tuple[Form, ...]
    texts: tuple[Form, ...]


@lru_cache(maxsize=256)
def _possible(columns: frozenset[str]) -> _Possible:
    def of(parts: Iterable[PartT]) -> tuple[PartT, ...]:
        return tuple(part for part in parts if columns.issuperset(part.needs))

    return _Possible(of(WHOLE), of(PROMPTS), of(ANSWERS), of(ALONE), of(TEXTS[1:]))


def _first(row: Row, forms: Iterable[Form]) -> Form | None:
    return next((form for form in forms if form.when(row)), None)


def _same(prompt: PromptPart | None, answers: AnswerPart) -> bool:
    return prompt is not None and bool(set(prompt.needs) & set(answers.needs))


def canonical_name(name: str) -> str:
    """A column's name as the forms know it: lower case, with underscores."""
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def canonical(row: Row, ignore: frozenset[str]) -> Row:
    """A row with canonical names, without ignored columns; messages that were written into text are messages again.

    Of two columns with one canonical name (`Prompt`, `prompt`), both keep the name they have.
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
