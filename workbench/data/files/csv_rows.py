"""Rows of CSV and TSV. The header decides the delimiter; lists written as text into cells are parsed."""

import csv
import io
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from workbench.data.files.cells import CellError, cell_value
from workbench.data.files.decoding import Text, inner_suffix, text_of_file
from workbench.data.files.row import Row
from workbench.run.errors import WorkbenchError

DELIMITERS = (",", ";", "\t", "|")
_LONGEST_NAME = 60


def csv_rows(path: Path) -> Iterator[Row]:
    """Rows of a file with a header line.

    Raises:
        WorkbenchError: quotes are not in pairs, or a line of a UTF-8 file is not UTF-8.
    """
    csv.field_size_limit(2**31 - 1)
    text = text_of_file(path)
    number = 0
    with text.open() as file:
        try:
            start = file.readline()
            skipped = start.lower().startswith("sep=")
            header_line = file.readline() if skipped else start
            delimiter = start.strip()[4:] if skipped else ""
            delimiter = delimiter[:1] or _delimiter(header_line, "\t" if inner_suffix(path) == ".tsv" else ",")
            reader = csv.reader(chain([header_line], file), delimiter=delimiter, strict=True)
            header = _header(path, next(reader, []))
            for number, cells in enumerate(reader, start=1):
                if cells:
                    yield _csv_row(f"{path}, row {number} (line {reader.line_num + skipped})", header, cells)
        except csv.Error as error:
            place = f"{path}, row {number + 1}"
            raise WorkbenchError(place, f"broken CSV: {error}", expected="quotes in pairs") from None
        except UnicodeDecodeError:
            Text(path, text.encoding).read()  # raises, with the line
            raise


def _header(path: Path, cells: list[str]) -> list[str]:
    names = [name.strip() for name in cells]
    twice = next((name for name in names if names.count(name) > 1 and name), None)
    if twice is not None:
        raise WorkbenchError(path, f"the header names {twice!r} twice", expected="a different name for each column")
    return names


def _delimiter(header: str, usual: str) -> str:
    """The delimiter with which the header has the most columns; `usual` if several have."""

    def columns(delimiter: str) -> int:
        try:
            names = next(csv.reader(io.StringIO(header), delimiter=delimiter), [])
        except csv.Error:
            return 0
        return len(names) if all(len(name) <= _LONGEST_NAME for name in names) else 0

    return max((usual, *DELIMITERS), key=columns)


def _csv_row(place: str, header: list[str], cells: list[str]) -> Row:
    if len(cells) != len(header):
        problem = f"it has {len(cells)} cells, the header {len(header)}"
        return Row(place, error=WorkbenchError(place, problem, expected=f"one cell per column: {', '.join(header)}"))
    fields = {}
    for name, cell in zip(header, cells, strict=True):
        try:
            fields[name] = cell_value(cell)
        except CellError as error:
            return Row(
                place,
                error=WorkbenchError(
                    place,
                    f"{name!r} holds a list that was written as text and cannot be parsed: {error}",
                    expected="a list as JSON, or as Python prints it",
                    remedy="write the data as JSON lines or Parquet, which keep lists",
                ),
            )
    return Row(place, fields)
