"""What a row says, whatever its form, and what a form is. Knows no file format and no purpose."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from workbench.data.files.row import Row
from workbench.data.forms.fields import Messages
from workbench.data.records import Item, Preference


@dataclass(frozen=True)
class Example:
    """A prompt with its answers, and what somebody said of them."""

    prompt: Messages
    responses: tuple[str, ...] = ()
    strength: float | None = None
    """Of two responses: above 0 the first is better, below 0 the second, 0 a tie; None: nobody said."""
    ratings: tuple[float, ...] = ()
    """Of each response, higher is better; empty: nobody rated."""
    good: bool | None = None
    """Of one response: whether it was marked as good; None: not marked."""
    runs: tuple[str, ...] = ()
    """The model behind each response, where the file says so."""
    annotators: tuple[str, ...] = ()
    agreement: float | None = None
    """Share of the annotators (ties ½) on the better side."""
    notes: tuple[str, ...] = ()
    """What was changed in reading, in a few words; counted over the file."""
    own: dict[str, Any] = field(default_factory=dict)
    """Fields of an item to label that the row brings along."""
    record: Preference | Item | None = None
    """The record that the row is, where our own programs wrote it."""


CATEGORIES = ("category", "subset", "source")
"""Columns of public pair files that say what kind of pair it is, the finest first."""
Uses = Callable[[Row], Iterable[str]]


@dataclass(frozen=True)
class PromptPart:
    """Columns that make a prompt."""

    needs: tuple[str, ...]
    read: Callable[[Row], Messages]
    may_have: tuple[str, ...] = ()
    when: Callable[[Row], bool] = lambda row: True
    """A condition on the values beyond that the columns are there."""


@dataclass(frozen=True)
class AnswerPart:
    """Columns that hold answers, and judgements of them."""

    needs: tuple[str, ...]
    read: Callable[[Row, Messages], Example]
    judged_by: Uses = lambda row: ()
    """Columns with judgements that are read where the row has them."""
    may_have: tuple[str, ...] = ()
    when: Callable[[Row], bool] = lambda row: True


@dataclass(frozen=True)
class Form:
    """A way to write an example: the columns it needs, and how to read them."""

    needs: tuple[str, ...]
    prompt: Callable[[Row], Messages]
    """The prompt alone: an answer that is bad or missing is no error then."""
    example: Callable[[Row], Example] | None = None
    """None: the row holds a prompt alone."""
    may_have: tuple[str, ...] = ()
    judged_by: Uses = lambda row: ()
    when: Callable[[Row], bool] = lambda row: True

    @classmethod
    def of(cls, prompt: PromptPart, answers: AnswerPart | None) -> "Form":
        """A prompt's columns together with those of the answers."""
        if answers is None:
            return cls(prompt.needs, prompt.read, may_have=prompt.may_have)
        read = answers.read
        return cls(
            (*prompt.needs, *answers.needs),
            prompt.read,
            lambda row: read(row, prompt.read(row)),
            (*prompt.may_have, *answers.may_have),
            answers.judged_by,
        )

    @property
    def name(self) -> str:
        """The form as its columns."""
        return ", ".join(self.needs)

    def uses(self, row: Row) -> set[str]:
        """Columns of a row that the form reads."""
        return {*self.needs, *self.may_have, *self.judged_by(row)}

    def shape(self, row: Row) -> str:
        """The form with the shape of its first column: text and messages are not mixed in one file."""
        value = row.fields.get(self.needs[0])
        return f"{self.name} ({'messages' if isinstance(value, list | tuple) else 'text'})"
