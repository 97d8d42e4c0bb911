"""One file on its way into records: its form, its bad rows, and what is to be said of it."""

import logging
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from workbench.data.files.json_rows import NESTED
from workbench.data.files.row import Row
from workbench.data.files.rows import read_rows, too_large
from workbench.data.forms.example import Example, Form
from workbench.data.forms.fields import SetAside
from workbench.data.forms.missing import missing
from workbench.data.forms.table import canonical, canonical_name, form_of
from workbench.data.forms.transcripts import has_marks
from workbench.data.forms.unused import Columns, leaves, texts_of
from workbench.data.purposes import Parsed, to_prompt
from workbench.data.records import Prompt
from workbench.data.rules import RowRules, kind_of
from workbench.run.errors import WorkbenchError

_log = logging.getLogger(__name__)
RecordT = TypeVar("RecordT", bound=BaseModel)
MARKS = "a mark of a speaker is left in the text"


class Fatal(Exception):
    """A fault of the whole file, found at a row."""

    def __init__(self, cause: WorkbenchError) -> None:
        self.cause = cause


class Reading:
    """One file on its way into records, and what is to be said of it."""

    def __init__(self, path: str | Path, purpose: str, rules: RowRules, *, imitated: bool = False) -> None:
        self.path, self.purpose, self.rules, self.imitated = path, purpose, rules, imitated
        self._ignore = frozenset(canonical_name(name) for name in rules.ignore)
        self._ignored: set[str] = set()
        self._first: tuple[Row, Form] | None = None
        self._columns = Columns()
        self._notes: dict[str, list[str]] = {}
        self._bad: list[WorkbenchError] = []
        self._aside: list[SetAside] = []
        self._rows = 0
        self._order: dict[str, int] = {}

    def each(self, make: Callable[[Row, Example], RecordT]) -> list[tuple[Row, RecordT]]:
        """A record of each row, by way of its example."""

        def record(row: Row) -> tuple[Row, RecordT]:
            canonical_row, example = self.parse(row)
            return canonical_row, make(canonical_row, example)

        return self._settled(record)

    def parsed(self) -> list[Parsed]:
        """Each row with its example; `settle` ends the reading."""
        return self._all(self.parse)

    def prompts(self) -> list[tuple[Row, Prompt]]:
        """The prompt of each row."""

        def record(row: Row) -> tuple[Row, Prompt]:
            row, form = self._formed(row)
            prompt = form.prompt(row)
            elsewhere = leaves([row.fields.get(name) for name in form.uses(row)])
            self._see(row, form, texts_of(prompt), elsewhere=elsewhere)
            return row, to_prompt(row, prompt)

        return self._settled(record)

    def rows(self, make: Callable[[Row], RecordT]) -> list[tuple[Row, RecordT]]:
        """A record of each row that has no prompt."""

        def record(row: Row) -> tuple[Row, RecordT]:
            row = self._opened(row)
            return row, make(row)

        return self._settled(record)

    def parse(self, row: Row) -> Parsed:
        """A row with canonical columns, and its example."""
        row, form = self._formed(row)
        if form.example is None:
            raise missing(row, self.purpose)
        example = form.example(row)
        self._see(row, form, texts_of(example.prompt, example.responses), notes=example.notes)
        return row, example

    def count(self) -> None:
        """One more row of a stream."""
        self._rows += 1

    def _opened(self, row: Row) -> Row:
        if row.error is not None:
            raise row.error
        self._ignored |= self._ignore & {canonical_name(name) for name in (*row.fields, *row.nulls)}
        return canonical(row, self._ignore)

    def _formed(self, row: Row) -> tuple[Row, Form]:
        """A row with canonical columns and its form, which is that of the file's first row."""
        row = self._opened(row)
        form = form_of(row)
        if self._first is None:
            if form is None or (form.example is None and self.purpose != "prompts"):
                return self._filled(row)
            self._first = row, form
        first_row, first = self._first
        if form is not None and form.name == first.name and form.shape(row) == first.shape(first_row):
            return row, form
        absent = [name for name in first.needs if name not in row.fields]
        empty = [name for name in absent if name in row.nulls]
        if absent and empty == absent:
            filled = _with_empty(row, empty)
            form = form_of(filled)
            if form is not None and form.name == first.name:
                return filled, form
        if form is None or (absent and set(form.needs) <= set(first.needs)):
            raise missing(row, self.purpose, first.needs)
        raise row.fail(
            f"mixed forms in one file: this row has {form.shape(row)}",
            expected=f"{first.shape(first_row)}, as in {first_row.place}",
            remedy="put each form into a file of its own",
        )

    def _filled(self, row: Row) -> tuple[Row, Form]:
        """A row before any that shows the file's form, its nulls read as empty cells."""
        filled = _with_empty(row, row.nulls)
        form = form_of(filled)
        if form is None or form.example is None:
            raise missing(row, self.purpose)
        return filled, form

    def _see(
        self, row: Row, form: Form, texts: Sequence[str], *, notes: Iterable[str] = (), elsewhere: Sequence[str] = ()
    ) -> None:
        """What is to be said of a row; text that is neither used nor `elsewhere` would be lost, a fault of the file."""
        try:
            self._columns.see(row, form, [*texts, *elsewhere], imitated=self.imitated)
        except WorkbenchError as error:
            raise Fatal(error) from None
        for note in notes:
            self._notes.setdefault(note, []).append(row.place)
        if any(map(has_marks, texts)):
            self._notes.setdefault(MARKS, []).append(row.place)

    def _all(self, make: Callable[[Row], Any]) -> list[Any]:
        made = []
        rows = read_rows(self.path)
        self._rows, self._order = len(rows), {row.place: number for number, row in enumerate(rows)}
        for row in rows:
            try:
                made.append(make(row))
            except Fatal as error:
                raise error.cause from None
            except SetAside as error:
                self._aside.append(error)
            except WorkbenchError as error:
                self._bad.append(error)
            except RecursionError:
                self._bad.append(row.fail(NESTED, expected="texts and lists of messages"))
            except MemoryError:
                raise too_large(self.path, len(made)) from None
        return made

    def _settled(self, make: Callable[[Row], Any]) -> list[Any]:
        made = self._all(make)
        self.settle(())
        if not made:
            raise WorkbenchError(
                self.path,
                f"all {self._rows} rows are set aside: {self._aside[0].problem}",
                expected="at least one answer that is marked as good",
            )
        return made

    def settle(self, more: Sequence[WorkbenchError]) -> None:
        """Stop at the first bad row, or leave the bad rows out with one warning that counts each kind."""
        bad = sorted([*self._bad, *more], key=lambda error: self._order.get(error.place, 0))
        if bad and (not self.rules.drops(len(bad), self._rows) or len(bad) == self._rows):
            raise with_others(bad[0], len(bad), self._rows)
        for error in bad:
            self.rules.left_out.append({"place": error.place, "problem": error.problem})
        if bad:
            self.note(f"left out {len(bad)} of {self._rows} rows: {self._counted(bad)}")
        if self._aside:
            self.note(f"set aside {len(self._aside)} of {self._rows} rows: {self._counted(self._aside)}")
        self.report()

    def _counted(self, errors: Sequence[WorkbenchError]) -> str:
        kinds: dict[str, list[str]] = {}
        for error in errors:
            kinds.setdefault(kind_of(error), []).append(error.place)
        return "; ".join(f"{len(places)} × {kind} ({self._some(places)})" for kind, places in kinds.items())

    def _some(self, places: Sequence[str], shown: int = 5) -> str:
        more = f" and {len(places) - shown} more" if len(places) > shown else ""
        return ", ".join(place.removeprefix(f"{self.path}, ") for place in places[:shown]) + more

    def note(self, text: str) -> None:
        """Say something of the file."""
        say(f"{self.path}: {text}")

    def report(self) -> None:
        """Say what was changed in rows, and which columns were not read."""
        for note, places in self._notes.items():
            self.note(f"in {len(places)} of {self._rows} rows {note} ({self._some(places)})")
        if self._columns.unread:
            self.note(f"left unused: {', '.join(self._columns.unread)}")
        absent = sorted(self._ignore - self._ignored)
        if absent:
            self.note(f"data.ignore names columns that no row has: {', '.join(absent)}")


def with_others(first: WorkbenchError, bad: int, rows: int) -> WorkbenchError:
    """The error for the first of several bad rows."""
    further = f" (and {bad - 1} more bad rows of {rows})" if bad > 1 else ""
    return WorkbenchError(first.place, first.problem + further, expected=first.expected, remedy=first.remedy)


def _with_empty(row: Row, names: Iterable[str]) -> Row:
    return replace(row, fields={**row.fields, **dict.fromkeys(names, "")})


@lru_cache(maxsize=1024)
def say(text: str) -> None:
    """A warning, once in a process: a file is read more than once."""
    _log.warning("%s", text)


def check_ids(path: str | Path, records: Sequence[tuple[Row, Any]], content: Callable[[Any], Hashable]) -> None:
    """An id that stands for two things would make one of them vanish in a split or a store."""
    seen: dict[str, tuple[Row, Hashable]] = {}
    for row, record in records:
        first, known = seen.setdefault(record.id, (row, content(record)))
        if known != content(record):
            raise WorkbenchError(
                row.place,
                f"another record has the id {record.id!r} ({first.place})",
                expected="an id for each record",
                remedy="mend the ids, or have them made from the texts: data.ignore=[id] (a verb: --ignore id)",
            )


def report_duplicates(path: str | Path, contents: Sequence[object]) -> None:
    """Say how many records repeat an earlier one."""
    duplicates = len(contents) - len(set(contents))
    if duplicates:
        say(f"{path}: {duplicates} of {len(contents)} records repeat an earlier one; all are used")
