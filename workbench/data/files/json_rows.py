"""Rows of JSON by content: lines, a list, consecutive objects, a list under a key, or columns."""

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from workbench.data.files.decoding import Text, not_utf8, text_of_file
from workbench.data.files.row import Row, row_of
from workbench.run.errors import WorkbenchError

WRAPPERS = ("data", "rows", "items", "examples", "records", "instances", "samples", "entries", "dataset")
"""Keys under which a file may hold the list of its rows."""
SPLITS = ("train", "test", "validation", "valid", "dev", "eval")
NESTED = "nested too deeply to be read"
_A_LINE = "one JSON object per line"
Line = tuple[int, str | UnicodeDecodeError]


def json_rows(path: Path) -> Iterator[Row]:
    """Rows of a JSON file; a bad line of JSON lines is a row with its error.

    Raises:
        WorkbenchError: the file as a whole is not JSON.
    """
    text = text_of_file(path)
    opening = list(islice(_not_blank(text), 2))
    if not opening:
        return iter(())
    start = opening[0][1]
    if isinstance(start, str) and start.lstrip().startswith("["):
        return _list_rows(path, text.read())
    if _are_lines(opening):
        return _line_rows(path, text)
    return _object_rows(path, text.read())


def _not_blank(text: Text) -> Iterator[Line]:
    numbered = enumerate(text.lines(), start=1)
    return ((number, line) for number, line in numbered if not isinstance(line, str) or line.strip())


def _are_lines(opening: list[Line]) -> bool:
    """Whether a file is JSON lines: one of its first two lines is a whole object, or cannot be decoded."""
    texts = [line for _, line in opening if isinstance(line, str)]
    if len(texts) < 2 or not texts[0].lstrip().startswith("{"):
        return len(opening) == 2
    return any(isinstance(_whole(text), dict) for text in texts)


def _whole(text: str) -> Any:
    """The JSON value that a text is, or None."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _line_rows(path: Path, text: Text) -> Iterator[Row]:
    for number, line in _not_blank(text):
        place = f"{path}, line {number}"
        if isinstance(line, UnicodeDecodeError):
            yield Row(place, error=WorkbenchError(place, **not_utf8(line)))
            continue
        line = line.strip()
        try:
            yield row_of(place, json.loads(line, object_pairs_hook=_object))
        except (ValueError, RecursionError) as error:
            yield Row(place, error=WorkbenchError(place, _why(line, error), expected=_A_LINE))


def _list_rows(path: Path, text: str) -> Iterator[Row]:
    try:
        values = json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise _broken(path, text, error, "a list of JSON objects") from None
    return _rows(path, values)


def _rows(path: Path, values: list[Any]) -> Iterator[Row]:
    return (row_of(f"{path}, item {number}", value) for number, value in enumerate(values, start=1))


def _object_rows(path: Path, text: str) -> Iterator[Row]:
    """Rows of consecutive objects, each over any number of lines; a single object may hold the rows."""
    decoder = json.JSONDecoder(object_pairs_hook=_object)
    values: list[Any] = []
    position = _after_blanks(text, 0)
    while position < len(text):
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise _broken(path, text, error, _A_LINE) from None
        values.append(value)
        position = _after_blanks(text, position)
    return _unfolded(path, values[0]) if len(values) == 1 else _rows(path, values)


def _after_blanks(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


def _unfolded(path: Path, value: Any) -> Iterator[Row]:
    """The rows of one object: the list under a key, its columns, or the object itself."""
    if isinstance(value, Mapping):
        held = [key for key in (*WRAPPERS, *SPLITS) if _is_list_of_objects(value.get(key))]
        if len(held) > 1:
            raise WorkbenchError(
                path,
                f"it holds several lists of rows: {', '.join(held)}",
                expected="one list",
                remedy="put each list into its own file",
            )
        if held:
            return _rows(path, value[held[0]])
        columns = _columns(value)
        if columns:
            names, lists = list(columns), list(columns.values())
            return _rows(path, [dict(zip(names, cells, strict=True)) for cells in zip(*lists, strict=True)])
    return iter([row_of(f"{path}, line 1", value)])


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, Mapping) for entry in value)


def _columns(value: Mapping[str, Any]) -> dict[str, list[Any]] | None:
    """Column → cells, if the object has columns: lists of equal length, or pandas' index → cell."""
    cells = list(value.values())
    if cells and all(isinstance(column, Mapping) for column in cells):
        index = list(cells[0])
        if index and all(key.isdigit() for key in index) and all(list(column) == index for column in cells):
            return {name: list(column.values()) for name, column in value.items()}
    if (
        len(cells) > 1
        and all(isinstance(column, list) and column for column in cells)
        and len({len(c) for c in cells}) == 1
    ):
        turns = any(isinstance(entry, Mapping) and {"role", "from"} & set(entry) for c in cells for entry in c)
        return None if turns else dict(value)
    return None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; a repeated key is an error, since Python would silently keep only its last value."""
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} appears twice in one object")
    return value


def _why(text: str, error: ValueError | RecursionError) -> str:
    """The problem of a JSON text, with its position."""
    if isinstance(error, RecursionError):
        return NESTED
    if not isinstance(error, json.JSONDecodeError):
        return f"broken JSON: {error}"
    position = error.pos
    rest = text[position:].lstrip(" \t\r\n,")
    comma = text[:position].rstrip().endswith(",") or text[position : position + 1] == ","
    reason = error.msg
    if comma and rest[:1] in ("]", "}"):
        reason = f"a trailing comma before {rest[0]!r}"
    elif reason == "Extra data" and not rest:
        reason = "a trailing comma after the object"
    excerpt = text[max(0, position - 30) : position + 30]
    return f"broken JSON: {reason}, column {error.colno}, in {excerpt!r}"


def _broken(path: Path, text: str, error: ValueError | RecursionError, expected: str) -> WorkbenchError:
    place = f"{path}, line {error.lineno}" if isinstance(error, json.JSONDecodeError) else str(path)
    return WorkbenchError(place, _why(text, error), expected=expected)
