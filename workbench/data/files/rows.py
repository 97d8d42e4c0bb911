"""Rows of users' files in any format: decoding, then the reader of the format. Knows no record.

Each row carries its place. A row that cannot be read carries its error, so that a reader can count bad rows. A library
beyond the standard one is imported only by the format that needs it.
"""

import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from workbench.data.files.csv_rows import csv_rows
from workbench.data.files.decoding import inner_suffix, open_bytes
from workbench.data.files.folders import HUB, folder_rows, hub_rows
from workbench.data.files.json_rows import json_rows
from workbench.data.files.memory import free_memory
from workbench.data.files.parquet_rows import parquet_rows
from workbench.data.files.row import Row
from workbench.run.errors import WorkbenchError, nearest

FORMATS = "JSONL, JSON, CSV, TSV, Parquet (also as .gz, .zst, .bz2, .xz), a folder of shards or one saved by `datasets`"
_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": json_rows,
    ".ndjson": json_rows,
    ".json": json_rows,
    ".csv": csv_rows,
    ".tsv": csv_rows,
    ".parquet": parquet_rows,
}
_CHECK_EVERY = 256
"""Rows between two checks of the free memory."""
_LEAST_FREE = 256 << 20
"""Bytes of memory that reading a file must leave free."""


def read_rows(path: str | Path) -> list[Row]:
    """All rows of a file, a folder, or `hub:OWNER/NAME`.

    Raises:
        WorkbenchError: nothing is there, or it is empty, unreadable or larger than the memory.
    """
    rows: list[Row] = []
    try:
        for row in stream_rows(path):
            rows.append(row)
            if len(rows) % _CHECK_EVERY == 0 and free_memory() < _LEAST_FREE:
                raise MemoryError
    except MemoryError:
        raise too_large(path, len(rows)) from None
    if not rows:
        raise WorkbenchError(path, "it is empty", expected="at least one record")
    return rows


def too_large(path: str | Path, rows: int) -> WorkbenchError:
    """The error for a file whose rows do not fit into memory together."""
    return WorkbenchError(
        path,
        f"it does not fit into memory: {rows:,} rows were read",
        expected="a file whose rows fit into memory together",
        remedy="split the file, or shorten its texts",
    )


def stream_rows(path: str | Path) -> Iterator[Row]:
    """The rows of `read_rows` one by one; only JSON that is not in lines is held in memory as a whole.

    Raises:
        WorkbenchError: nothing is there, or it is unreadable, perhaps only after some rows.
    """
    if str(path).startswith(HUB):
        return hub_rows(str(path))
    path = existing(Path(path))
    return folder_rows(path, tuple(_READERS), _file_rows) if path.is_dir() else _file_rows(path)


def existing(path: Path) -> Path:
    """The path itself, or an error that names the most similar file there is."""
    if path.exists():
        return path
    folder = path.parent
    if not folder.is_dir():
        raise WorkbenchError(
            path, "no such file: its folder does not exist either", remedy=f"create {folder}, or fix the path"
        )
    close = nearest(path.name, [entry.name for entry in folder.iterdir()])
    raise WorkbenchError(
        path,
        "no such file",
        remedy=f"did you mean {str(folder / close)!r}?" if close else f"put it into {folder}, or fix the path",
    )


def _file_rows(path: Path) -> Iterator[Row]:
    try:
        yield from _reader_of(path)(path)
    except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise WorkbenchError(
            path, f"its compressed content is broken or cut off: {error}", remedy="copy or download the file again"
        ) from None


def _reader_of(path: Path) -> Callable[[Path], Iterator[Row]]:
    """The reader of a file, by its suffix or, if they say more, its first bytes."""
    with open_bytes(path) as file:
        head = file.read(4096)
    if head.startswith(b"PAR1"):
        return parquet_rows
    suffix = inner_suffix(path)
    if suffix in _READERS:
        return _READERS[suffix]
    start = head.replace(b"\x00", b"").removeprefix(b"\xef\xbb\xbf").removeprefix(b"\xff\xfe").lstrip()
    if suffix != ".txt" and start[:1] in (b"{", b"["):
        return json_rows
    raise WorkbenchError(
        path, f"a file of the kind {suffix or 'without a suffix'!r} holds no records", expected=FORMATS
    )
