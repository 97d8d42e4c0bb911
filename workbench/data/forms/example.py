"""What a row says, whatever its form, and how a form is declared. Knows no file format and no purpose."""

from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, NamedTuple

from workbench.data.files.row import Row
from workbench.data.forms.fields import Messages
from workbench.data.records import Item, Preference, RatedAnswer

CATEGORIES = ("category", "subset", "source")
"""Columns of public pair files that name the kind of a pair, the finest first."""


class Vote(NamedTuple):
    """One person's judgement of two answers."""

    strength: float
    """Above 0 the first is better, below 0 the second, 0 is a tie."""
    annotator: str = ""
    both_bad: bool = False
    comment: str = ""


@dataclass(frozen=True)
class Example:
    """A prompt, its responses, and the judgements of them."""

    prompt: Messages
    responses: tuple[str, ...] = ()
    strength: float | None = None
    """For two responses: above 0 the first is better, below 0 the second, 0 is a tie; None: not judged."""
    both_bad: bool = False
    """Whether the judgement calls both responses bad; `strength` is then 0."""
    best_first: bool = False
    """Whether the first response was preferred: the order of the responses tells the judgement."""
    votes: tuple[Vote, ...] = ()
    """The single judgements behind `strength`, if the file has them."""
    about: str = ""
    """The id of the item that the votes are about, if its texts are in another file."""
    ratings: tuple[float, ...] = ()
    """One rating per response, higher is better; empty: not rated."""
    good: bool | None = None
    """For one response: whether it is marked as good; None: not marked."""
    runs: tuple[str, ...] = ()
    """The model behind each response, if the file names it."""
    annotators: tuple[str, ...] = ()
    agreement: float | None = None
    """Share of the annotators on the better side; a tie counts ½."""
    notes: tuple[str, ...] = ()
    """Short descriptions of changes made while reading; they are counted over the file."""
    own: dict[str, Any] = field(default_factory=dict)
    """Fields of an item to label that the row brings along."""
    record: Preference | Item | RatedAnswer | None = None
    """The record itself, if one of our own programs wrote the row."""


@dataclass(frozen=True)
class Columns:
    """The columns that a form or a part of one reads."""

    needs: tuple[str, ...]
    """A row without one of these is not in this form."""
    _: KW_ONLY
    when: Callable[[Row], bool] = lambda row: True
    """A condition on the values of these columns."""
    may_have: tuple[str, ...] = ()
    """Further columns that are read if the row has them."""
    judged_by: Callable[[Row], Iterable[str]] = lambda row: ()
    """Columns of a row from which its judgement is read."""


@dataclass(frozen=True)
class PromptColumns(Columns):
    """Columns that make a prompt."""

    _: KW_ONLY
    read: Callable[[Row], Messages]


@dataclass(frozen=True)
class AnswerColumns(Columns):
    """Columns with answers to a prompt in other columns, and with judgements of them."""

    _: KW_ONLY
    read: Callable[[Row, Messages], Example]


@dataclass(frozen=True)
class Form(Columns):
    """Columns that make a whole example."""

    _: KW_ONLY
    prompt: Callable[[Row], Messages]
    """Reads the prompt alone, without looking at the answer."""
    example: Callable[[Row], Example] | None = None
    """None: the row holds only a prompt."""

    @classmethod
    def of(cls, prompt: PromptColumns, answers: AnswerColumns | None) -> "Form":
        """A form from prompt columns and, if there are any, answer columns."""
        if answers is None:
            return cls(prompt.needs, prompt=prompt.read, may_have=prompt.may_have)
        read = answers.read
        return cls(
            (*prompt.needs, *answers.needs),
            prompt=prompt.read,
            example=lambda row: read(row, prompt.read(row)),
            may_have=(*prompt.may_have, *answers.may_have),
            judged_by=answers.judged_by,
        )

    @property
    def name(self) -> str:
        """The needed columns, as messages name the form."""
        return ", ".join(self.needs)

    def uses(self, row: Row) -> set[str]:
        """The columns of a row that the form reads."""
        return {*self.needs, *self.may_have, *self.judged_by(row)}

    def shape(self, row: Row) -> str:
        """The form and the type of its first column: one file must not mix text and messages."""
        value = row.fields.get(self.needs[0])
        return f"{self.name} ({'messages' if isinstance(value, list | tuple) else 'text'})"
