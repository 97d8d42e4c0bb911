"""Labelled texts in any kind of file: the user names the columns, so no form is looked for. Knows no model.

A task is *multi-label* if a text may have any number of classes: its label column holds lists, or several columns of
0 and 1 are named, one per class. Otherwise each text has exactly one class.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.data.files.row import Row
from workbench.data.files.rows import stream_rows
from workbench.data.forms.fields import empty_row, not_blank, short, text_of
from workbench.data.forms.own import record_of
from workbench.data.forms.table import canonical_name
from workbench.data.reading import Reading
from workbench.data.records import LabelledText, content_id
from workbench.data.rules import RowRules
from workbench.run.errors import WorkbenchError, nearest

_YES_NO = {"0": False, "1": True, "false": False, "true": True, "0.0": False, "1.0": True}


@dataclass(frozen=True)
class Columns:
    """Where a file holds texts and labels; `data.text` and `data.labels`."""

    text: str = "text"
    labels: tuple[str, ...] = ("label",)
    """One column of classes, or several columns of 0 and 1, each named like its class."""


@dataclass(frozen=True)
class LabelledFile:
    """The labelled texts of a file."""

    records: list[LabelledText]
    multi_label: bool
    places: list[str]
    """The place of each record, such as `data.csv, row 3 (line 4)`."""

    @property
    def counts(self) -> Counter[str]:
        """Label → texts that have it."""
        return Counter(label for record in self.records for label in record.labels)


def read_labelled(path: str | Path, columns: Columns, rules: RowRules | None = None) -> LabelledFile:
    """Texts with their labels.

    Raises:
        WorkbenchError: the file or a row is bad, or some rows have one label and others a list of labels.
    """
    reading = Reading(path, "labelled texts", rules or RowRules(), unmasked=columns.labels)
    rows = reading.table(lambda row: labelled_row(row, columns))
    several = [isinstance(labels, list) for _, (_, labels) in rows]
    if any(several) and not all(several):
        row = rows[several.index(not several[0])][0]
        raise row.fail(
            "this row has " + ("one label" if several[0] else "a list of labels") + ", unlike the first row",
            expected="one label in every row, or a list of labels in every row",
        )
    records = []
    for row, (text, labels) in rows:
        names = labels if isinstance(labels, list) else [labels]
        values = {"id": _id_of(row, text), "text": text, "labels": tuple(sorted(set(names)))}
        records.append(record_of(row, LabelledText, values))
    used = {canonical_name(name) for name in (columns.text, *columns.labels)} | {"id"}
    unused = dict.fromkeys(name for row, _ in rows for name in row.fields if name not in used)
    if unused:
        reading.note(f"left unused: {', '.join(unused)}")
    contradictory = _contradictions(records)
    if contradictory:
        reading.note(f"{contradictory} texts occur with different labels")
    return LabelledFile(records, several[0], [row.place for row, _ in rows])


def stream_texts(
    path: str | Path, column: str, rules: RowRules | None = None
) -> Iterator[tuple[str, str] | WorkbenchError]:
    """(id, text) per row of a file of any size, labelled or not; a bad row comes as its error.

    Raises:
        WorkbenchError: the file is bad; the rows before the problem have been returned.
    """
    reading = Reading(path, "texts", rules or RowRules())
    for outcome in reading.each_row(stream_rows(path), lambda row: _text_of(row, column)):
        if isinstance(outcome, WorkbenchError):
            yield outcome
        else:
            row, text = outcome
            yield _id_of(row, text), text


def labelled_row(row: Row, columns: Columns) -> tuple[str, str | list[str]]:
    """The text of a row, and its label or list of labels.

    Raises:
        WorkbenchError: a column is missing or empty, or its value is not a text or a label.
    """
    text = _text_of(row, columns.text)
    if len(columns.labels) == 1:
        return text, _label(row, columns.labels[0])
    return text, [name for name in columns.labels if _is_set(row, name)]


def _text_of(row: Row, column: str) -> str:
    _value(row, column)  # raises if there is no such column
    name = canonical_name(column)
    return not_blank(row, name, text_of(row, name))


def _label(row: Row, column: str) -> str | list[str]:
    """The class of a row, or its classes if the column holds lists."""
    value = _value(row, column)
    if isinstance(value, list | tuple):
        return [_name(row, column, entry) for entry in value]
    return _name(row, column, value)


def _name(row: Row, column: str, value: Any) -> str:
    """A class as text; booleans and whole numbers are classes, too."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # pandas writes the whole numbers of a column with gaps as 1.0
    if not isinstance(value, str | int) or not str(value).strip():
        raise row.fail(f"{column!r} is {short(value)}", expected="a class as text or a whole number, or a list of them")
    return str(value).strip()


def _is_set(row: Row, column: str) -> bool:
    value = str(_value(row, column)).strip().lower()
    if value not in _YES_NO:
        raise row.fail(
            f"{column!r} is {value!r}",
            expected="0 or 1",
            remedy="data.labels names one column of classes, or several columns of 0 and 1",
        )
    return _YES_NO[value]


def _value(row: Row, column: str) -> Any:
    name = canonical_name(column)
    if name in row.fields:
        return row.fields[name]
    if name in row.nulls:
        raise empty_row(row, f"{column!r} is empty", "a value")
    close = nearest(name, row.fields)
    raise row.fail(
        f"it has no column {column!r}; found: {', '.join(row.fields) or 'nothing'}",
        expected="the columns that data.text and data.labels name",
        remedy=f"did you mean {close!r}?" if close else "data.text=COLUMN data.labels=COLUMN (predict: --text COLUMN)",
    )


def _id_of(row: Row, text: str) -> str:
    given = row.fields.get("id")
    return str(given) if isinstance(given, str | int) and str(given) else content_id(text)


def _contradictions(records: list[LabelledText]) -> int:
    """Distinct texts that occur with different labels."""
    seen: dict[str, set[tuple[str, ...]]] = {}
    for record in records:
        seen.setdefault(record.text, set()).add(record.labels)
    return sum(len(labels) > 1 for labels in seen.values())
