"""Rows of users' files: JSONL, JSON, CSV, TSV, Parquet, a saved `datasets` folder, a hub data set. Knows no record.

Each row carries the place it came from, and a row that cannot be read carries its error, so that a reader can report
the first bad row and count the rest. Libraries beyond the standard one are imported only by the format that needs them.
"""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.run.errors import WorkbenchError, nearest

HUB = "hub:"
_PARQUET_BATCH = 1024
"""Rows of a Parquet file that are in memory at one time."""
FORMATS = "JSONL, JSON (a list of objects), CSV, TSV, Parquet, or a folder saved by `datasets`"


@dataclass(frozen=True)
class Row:
    """One row of a file: its `place`, its `fields` (nulls left out), or the `error` that kept it from being read."""

    place: str
    fields: dict[str, Any] = field(default_factory=dict)
    error: WorkbenchError | None = None

    def fail(self, problem: str, *, expected: str | None = None, remedy: str | None = None) -> WorkbenchError:
        """An error at this row's place."""
        return WorkbenchError(self.place, problem, expected=expected, remedy=remedy)


def read_rows(path: str | Path) -> list[Row]:
    """All rows of a file, a saved `datasets` folder, or `hub:OWNER/NAME`.

    Raises:
        WorkbenchError: nothing there, a folder instead of a file, an empty or unreadable file.
    """
    rows = list(stream_rows(path))
    if not rows:
        raise WorkbenchError(path, "it is empty", expected="at least one record")
    return rows


def stream_rows(path: str | Path) -> Iterator[Row]:
    """The rows of `read_rows` one after another; of a JSON list alone, the whole file is in memory.

    Raises:
        WorkbenchError: nothing there, a folder instead of a file, an unreadable file (also after some rows).
    """
    if str(path).startswith(HUB):
        return _hub_rows(str(path))
    path = existing(Path(path))
    return _folder_rows(path) if path.is_dir() else _file_rows(path)


def existing(path: Path) -> Path:
    """The path itself, or an error that names the nearest file there is."""
    if path.exists():
        return path
    folder = path.parent
    if not folder.is_dir():
        raise WorkbenchError(
            path, "no such file: its folder does not exist either", remedy=f"create {folder}, or mend the path"
        )
    close = nearest(path.name, [entry.name for entry in folder.iterdir()])
    raise WorkbenchError(
        path,
        "no such file",
        remedy=f"did you mean {str(folder / close)!r}?" if close else f"put it into {folder}, or mend the path",
    )


def read_utf8(path: Path) -> str:
    """A file's text, without a byte-order mark.

    Raises:
        WorkbenchError: it is a folder, or not UTF-8; the message names the line.
    """
    if path.is_dir():
        raise _is_a_folder(path)
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise WorkbenchError(f"{path}, line {line}", **_not_utf8(error)) from None


def _not_utf8(error: UnicodeDecodeError) -> dict[str, Any]:
    return {
        "problem": f"not UTF-8: byte 0x{error.object[error.start]:02x}",
        "expected": "text in UTF-8",
        "remedy": "convert the file, for example: iconv -f latin1 -t utf-8 OLD > NEW",
    }


def _is_a_folder(path: Path) -> WorkbenchError:
    names = sorted(entry.name for entry in path.iterdir())
    readable = [name for name in names if Path(name).suffix in _READERS]
    return WorkbenchError(
        path,
        "it is a folder, not a file",
        expected=FORMATS,
        remedy=f"name one of its files: {', '.join(readable[:8])}"
        if readable
        else f"it holds: {', '.join(names[:8]) or 'nothing'}",
    )


def _file_rows(path: Path) -> Iterator[Row]:
    reader = _READERS.get(path.suffix.lower())
    if reader is not None:
        return reader(path)
    if path.suffix.lower() == ".txt" or path.read_bytes()[:4096].lstrip()[:1] not in (b"{", b"["):
        raise WorkbenchError(
            path, f"a file of the kind {path.suffix or 'without a suffix'!r} holds no records", expected=FORMATS
        )
    return _json_rows(path)


def _json_rows(path: Path) -> Iterator[Row]:
    """Rows of a JSON list, or of JSON lines: by what the file starts with, whatever its suffix."""
    with path.open("rb") as file:
        start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    return _json_list(path) if start.startswith(b"[") else _json_lines(path)


def _json_lines(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            if raw.strip():
                yield _json_line(f"{path}, line {number}", raw)


def _json_line(place: str, raw: bytes) -> Row:
    try:
        line = raw.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        return Row(place, error=WorkbenchError(place, **_not_utf8(error)))
    try:
        return _row(place, json.loads(line))
    except json.JSONDecodeError as error:
        problem = f"broken JSON: {error.msg}, column {error.colno}, in {_excerpt(line, error.pos)}"
        return Row(place, error=WorkbenchError(place, problem, expected="one JSON object a line"))


def _json_list(path: Path) -> Iterator[Row]:
    text = read_utf8(path)
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        problem = f"broken JSON: {error.msg}, column {error.colno}, in {_excerpt(text, error.pos)}"
        raise WorkbenchError(f"{path}, line {error.lineno}", problem, expected="a list of JSON objects") from None
    for number, value in enumerate(values, start=1):
        yield _row(f"{path}, item {number}", value)


def _excerpt(text: str, position: int) -> str:
    return repr(text[max(0, position - 30) : position + 30])


def _row(place: str, value: object) -> Row:
    if not isinstance(value, dict):
        problem = f"a JSON {type(value).__name__}, not an object: {json.dumps(value)[:60]}"
        return Row(place, error=WorkbenchError(place, problem, expected='an object, such as {"prompt": …}'))
    return Row(place, {key: content for key, content in value.items() if content is not None})


def _csv_rows(path: Path) -> Iterator[Row]:
    csv.field_size_limit(2**31 - 1)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    number = 0
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            header = next(reader, [])
            for number, cells in enumerate(reader, start=1):
                if cells:
                    yield _csv_row(f"{path}, row {number} (line {reader.line_num})", header, cells)
        except csv.Error as error:
            place = f"{path}, row {number + 1}"
            raise WorkbenchError(place, f"broken CSV: {error}", expected="quotes in pairs") from None
        except UnicodeDecodeError:
            read_utf8(path)  # raises, with the line
            raise


def _csv_row(place: str, header: list[str], cells: list[str]) -> Row:
    if len(cells) != len(header):
        problem = f"it has {len(cells)} cells, the header {len(header)}"
        return Row(place, error=WorkbenchError(place, problem, expected=f"one cell for each of: {', '.join(header)}"))
    return Row(place, {name.strip(): _cell(cell) for name, cell in zip(header, cells, strict=True)})


def _cell(cell: str) -> Any:
    """A cell's text; messages written as JSON into a cell become messages again."""
    if cell.startswith("[{"):
        try:
            return json.loads(cell)
        except json.JSONDecodeError:
            return cell
    return cell


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_PARQUET_BATCH):
                for fields in batch.to_pylist():
                    number += 1
                    yield _row(f"{path}, row {number}", fields)
    except (pyarrow.ArrowException, OSError) as error:
        raise WorkbenchError(path, f"not a Parquet file: {error}", expected="Parquet") from None


def _folder_rows(path: Path) -> Iterator[Row]:
    if (path / "dataset_dict.json").exists():
        splits = sorted(entry.name for entry in path.iterdir() if entry.is_dir())
        raise WorkbenchError(
            path,
            f"it holds several splits: {', '.join(splits)}",
            remedy=f"name one of them, for example {path / splits[0]}",
        )
    if not (path / "state.json").exists():
        raise _is_a_folder(path)
    import datasets

    return _dataset_rows(str(path), datasets.load_from_disk(str(path)))


def _hub_rows(name: str) -> Iterator[Row]:
    """Rows of `hub:OWNER/NAME` or `hub:OWNER/NAME:SPLIT` (`train` where none is named)."""
    import datasets
    import httpx

    repository, _, split = name.removeprefix(HUB).partition(":")
    try:
        dataset = datasets.load_dataset(repository, split=split or "train")
    except (OSError, ValueError, RuntimeError, httpx.HTTPError) as error:
        raise WorkbenchError(
            name,
            f"it could not be loaded from the hub: {(str(error) or type(error).__name__).splitlines()[0]}",
            expected="a data set that can be reached, or is in the local cache",
            remedy="go online (and unset HF_HUB_OFFLINE), or name a local file instead",
        ) from error
    return _dataset_rows(name, dataset)


def _dataset_rows(place: str, dataset: Any) -> Iterator[Row]:
    for number, fields in enumerate(dataset, start=1):
        yield _row(f"{place}, row {number}", fields)


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _json_rows,
    ".ndjson": _json_rows,
    ".json": _json_rows,
    ".csv": _csv_rows,
    ".tsv": _csv_rows,
    ".parquet": _parquet_rows,
}
