"""One file on its way into records: rows → form → example → record, and one report of bad rows and changes."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from workbench.data.files.json_rows import NESTED
from workbench.data.files.row import Row
from workbench.data.files.rows import read_rows, too_large
from workbench.data.forms.example import Example, Form
from workbench.data.forms.fields import SetAside
from workbench.data.forms.missing import missing
from workbench.data.forms.table import canonical, canonical_name, form_of
from workbench.data.forms.transcripts import has_marks
from workbench.data.forms.unused import UnusedColumns, leaves
from workbench.data.masking import masked, masker_of
from workbench.data.rules import RowRules, kind_of
from workbench.run.errors import WorkbenchError

_log = logging.getLogger(__name__)
MadeT = TypeVar("MadeT")
MARKS = "a mark of a speaker is left in the text"
EMPTY = "an answer is empty"
WITHOUT_TEXTS = "a judgement of an item whose texts are in another file"
WITH_ITEMS = "load the items first, then this file: python -m annotate load CONFIG.yaml FILE --labels-by NAME"


class Fatal(Exception):
    """An error of the whole file that was found at one row."""

    def __init__(self, cause: WorkbenchError) -> None:
        self.cause = cause


class Reading:
    """The reading of one file for one purpose.

    Args:
        path: the file.
        purpose: a key of `forms.missing.FORMS`.
        rules: ignored columns, and what happens to bad rows; rows that are left out are added to its list.
        unmasked: columns that `rules.mask` leaves as they are.
        imitated: whether the answers will be imitated: a judgement that no form reads is then an error.
    """

    def __init__(
        self, path: str | Path, purpose: str, rules: RowRules, *, imitated: bool = False, unmasked: Sequence[str] = ()
    ) -> None:
        self.path, self.purpose, self.rules, self.imitated = path, purpose, rules, imitated
        self._masker = masker_of(rules.mask) if rules.mask else None
        self._unmasked = frozenset(map(canonical_name, unmasked))
        self._ignore = frozenset(canonical_name(name) for name in rules.ignore)
        self._ignored: set[str] = set()
        self._rename = {canonical_name(old): canonical_name(new) for old, new in rules.rename}
        self._renamed: set[str] = set()
        self._first: tuple[Row, Form] | None = None
        self._unused = UnusedColumns()
        self._notes: dict[str, list[str]] = {}
        self._rows = 0

    def records(self, make: Callable[[Row, Example], MadeT]) -> list[tuple[Row, MadeT]]:
        """Each row with what `make` returns for it and its example, without the bad rows.

        Raises:
            WorkbenchError: a bad row that `rules` does not leave out, no row is left, or they do not fit into memory.
        """
        return self._all(lambda rows: self.each(rows, make))

    def table(self, make: Callable[[Row], MadeT]) -> list[tuple[Row, MadeT]]:
        """Like `records`, for rows that are in no form: `make` reads the columns itself.

        Raises:
            WorkbenchError: as `records`.
        """
        return self._all(lambda rows: self.each_row(rows, make))

    def _all(
        self, outcomes: Callable[[Iterable[Row]], Iterator[tuple[Row, MadeT] | WorkbenchError]]
    ) -> list[tuple[Row, MadeT]]:
        made: list[tuple[Row, MadeT]] = []
        try:
            made.extend(self.good(outcomes(read_rows(self.path))))
        except MemoryError:
            raise too_large(self.path, len(made)) from None
        return made

    def good(self, outcomes: Iterable[tuple[Row, MadeT] | WorkbenchError]) -> Iterator[tuple[Row, MadeT]]:
        """The outcomes of `each` that are no errors, one by one; the errors are counted and judged after the last.

        Raises:
            WorkbenchError: a bad row that `rules` does not leave out, or no row is left.
        """
        bad: list[WorkbenchError] = []
        aside: list[WorkbenchError] = []
        made = 0
        for outcome in outcomes:
            if not isinstance(outcome, WorkbenchError):
                made += 1
                yield outcome
            else:
                (aside if isinstance(outcome, SetAside) else bad).append(outcome)
        unknown = sorted(self._rename.keys() - self._renamed)
        if unknown:
            raise WorkbenchError(self.path, f"no row has the column {unknown[0]!r}, which --map renames")
        self._leave_out(bad)
        if aside:
            self.note(f"set aside {len(aside)} of {self._rows} rows: {self._counted(aside)}")
        self.report()
        if not made and aside:
            raise WorkbenchError(
                self.path,
                f"all {self._rows} rows are set aside: {aside[0].problem}",
                expected="at least one answer that is marked as good",
            )

    def each(
        self, rows: Iterable[Row], make: Callable[[Row, Example], MadeT]
    ) -> Iterator[tuple[Row, MadeT] | WorkbenchError]:
        """Per row, the row with what `make` returns for it, or its error.

        Raises:
            WorkbenchError: text of a column would be lost, which is an error of the whole file.
        """

        def parse(row: Row) -> tuple[Row, MadeT]:
            read, example = self._example(row)
            return read, make(read, example)

        return self._outcomes(rows, parse)

    def each_row(
        self, rows: Iterable[Row], make: Callable[[Row], MadeT]
    ) -> Iterator[tuple[Row, MadeT] | WorkbenchError]:
        """Per row, the row with what `make` returns for it, or its error; no form is looked for."""

        def parse(row: Row) -> tuple[Row, MadeT]:
            read = self._canonical(row)
            return read, make(read)

        return self._outcomes(rows, parse)

    def _outcomes(
        self, rows: Iterable[Row], parse: Callable[[Row], tuple[Row, MadeT]]
    ) -> Iterator[tuple[Row, MadeT] | WorkbenchError]:
        for row in rows:
            self._rows += 1
            outcome: tuple[Row, MadeT] | WorkbenchError
            try:
                outcome = parse(row)
            except Fatal as error:
                raise error.cause from None
            except WorkbenchError as error:
                outcome = error
            except RecursionError:
                outcome = row.fail(NESTED, expected="texts and lists of messages")
            yield outcome

    def _example(self, row: Row) -> tuple[Row, Example]:
        """A row with canonical columns, and its example; for the purpose `prompts`, one without answers."""
        row, form = self._form(self._canonical(row))
        if self.purpose == "prompts":
            example = Example(form.prompt(row))
            known = leaves([row.fields.get(name) for name in form.uses(row)])  # answers are used, if not here
        elif form.example is None:
            raise missing(row, self.purpose)
        else:
            example, known = form.example(row), []
            if example.about and self.purpose != "items":
                raise Fatal(row.fail(WITHOUT_TEXTS, expected=self.purpose, remedy=WITH_ITEMS))
        texts = [*(message.content for message in example.prompt), *example.responses]
        try:
            self._unused.see(row, form, [*texts, *known], imitated=self.imitated)
        except WorkbenchError as error:
            raise Fatal(error) from None
        empty = self.purpose in ("items", "preferences") and not all(text.strip() for text in example.responses)
        for note in (*example.notes, *([MARKS] if any(map(has_marks, texts)) else []), *([EMPTY] if empty else [])):
            self._notes.setdefault(note, []).append(row.place)
        return row, example

    def _with_names(self, row: Row) -> Row:
        """A row with its columns renamed as `rules.rename` says."""
        for old, new in self._rename.items():
            if new in row.fields and old in row.fields:
                raise Fatal(row.fail(f"has both {old!r} and {new!r}", expected=f"one column for {new!r}"))
        self._renamed |= self._rename.keys() & {*row.fields, *row.nulls}
        fields = {self._rename.get(name, name): value for name, value in row.fields.items()}
        return replace(row, fields=fields, nulls=frozenset(self._rename.get(name, name) for name in row.nulls))

    def _canonical(self, row: Row) -> Row:
        """A row with canonical column names and without ignored columns, renamed and masked, or its error."""
        if row.error is not None:
            raise row.error
        self._ignored |= self._ignore & {canonical_name(name) for name in (*row.fields, *row.nulls)}
        read = self._with_names(canonical(row, self._ignore))
        if self._masker is None:
            return read
        read, entries = masked(read, self._masker, self._unmasked)
        self.rules.masked.extend(entries)
        return read

    def _form(self, row: Row) -> tuple[Row, Form]:
        """A row and its form, which must be the form of the file's first row; nulls may count as empty cells."""
        form = form_of(row)
        if self._first is None:
            if form is None or (form.example is None and self.purpose != "prompts"):
                filled = _with_empty(row, row.nulls)
                form = form_of(filled)
                if form is None or form.example is None:
                    raise missing(row, self.purpose)
                return filled, form
            self._first = row, form
        first_row, first = self._first
        if form is not None and form.name == first.name and form.shape(row) == first.shape(first_row):
            return row, form
        absent = [name for name in first.needs if name not in row.fields]
        if absent and row.nulls.issuperset(absent):
            filled = _with_empty(row, absent)
            form = form_of(filled)
            if form is not None and form.name == first.name:
                return filled, form
        if form is None or (absent and set(form.needs) <= set(first.needs)):
            raise missing(row, self.purpose, first.needs)
        raise row.fail(
            f"mixed forms in one file: this row has {form.shape(row)}",
            expected=f"{first.shape(first_row)}, as in {first_row.place}",
            remedy="put each form into its own file",
        )

    def _leave_out(self, bad: Sequence[WorkbenchError]) -> None:
        """List the bad rows and count them in one warning, or raise the first."""
        if not bad:
            return
        if len(bad) == self._rows or not self.rules.drops(len(bad), self._rows):
            raise with_others(bad[0], len(bad), self._rows)
        self.rules.left_out.extend({"place": error.place, "problem": error.problem} for error in bad)
        self.note(f"left out {len(bad)} of {self._rows} rows: {self._counted(bad)}")

    def _counted(self, errors: Sequence[WorkbenchError]) -> str:
        kinds: dict[str, list[str]] = {}
        for error in errors:
            kinds.setdefault(kind_of(error), []).append(error.place)
        return "; ".join(f"{len(places)} × {kind} ({self._listed(places)})" for kind, places in kinds.items())

    def _listed(self, places: Sequence[str], shown: int = 5) -> str:
        more = f" and {len(places) - shown} more" if len(places) > shown else ""
        return ", ".join(place.removeprefix(f"{self.path}, ") for place in places[:shown]) + more

    @property
    def changes(self) -> dict[str, list[str]]:
        """What was changed or looked odd in rows that were read: description → places."""
        return {note: list(places) for note, places in self._notes.items()}

    @property
    def unused(self) -> list[str]:
        """Columns that no form reads."""
        return list(self._unused.names)

    @property
    def form(self) -> str:
        """The form of the first row that was read, as messages name it; empty: none yet."""
        return self._first[1].name if self._first else ""

    def note(self, text: str) -> None:
        """Warn about the file."""
        say(f"{self.path}: {text}")

    def report(self) -> None:
        """Warn about changes in rows, unread columns, and names in `data.ignore` that no row has."""
        for note, places in self._notes.items():
            self.note(f"in {len(places)} of {self._rows} rows {note} ({self._listed(places)})")
        if self._unused.names:
            self.note(f"left unused: {', '.join(self._unused.names)}")
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
    """Warn once per process, since a file may be read several times."""
    _log.warning("%s", text)
