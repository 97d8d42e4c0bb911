"""Who and what is in a data file: the records of an annotator or with an id, and the annotators of all records.

Plain JSON lines are searched as bytes, and only lines that hold the sought text are parsed. Other formats go through
their readers. Knows files, no runs.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from workbench.data.files.rows import stream_rows
from workbench.data.readers import write_records

T = TypeVar("T")
ANNOTATORS = b'"annotators"'
CONFIGURATION = (".yaml", ".yml")
"""A run's data file of this kind says how records are made (`data.refresh`), and holds none."""
BLOCK = 16 << 20
"""Bytes that are searched at one time."""


@dataclass(frozen=True)
class Sought:
    """What is looked for: a record counts if one of its annotators, or its id, is named."""

    annotators: frozenset[str] = frozenset()
    """Names and pseudonyms of one person."""
    record: str | None = None

    def matches(self, fields: Mapping[str, Any]) -> bool:
        """Whether a record is sought. The pairs made of one item share its id up to a colon."""
        record_id = str(fields.get("id", ""))
        if self.record is not None and self.record in (record_id, record_id.rpartition(":")[0]):
            return True
        return not self.annotators.isdisjoint(map(str, fields.get("annotators") or ()))

    @property
    def needles(self) -> list[bytes]:
        """Bytes of which every sought line of JSON holds at least one."""
        words = [f'"{_inner(name, ascii_only)}"' for name in self.annotators for ascii_only in (True, False)]
        if self.record is not None:  # an id may go on after a colon
            words += [f'"{_inner(self.record, ascii_only)}' for ascii_only in (True, False)]
        return sorted({word.encode() for word in words})


def _inner(text: str, ascii_only: bool) -> str:
    return json.dumps(text, ensure_ascii=ascii_only)[1:-1]


def count_records(path: Path, sought: Sought) -> int:
    """Number of sought records in a file or folder.

    Raises:
        WorkbenchError: it cannot be read.
    """
    return _over_records(path, sought.needles, lambda records: sum(map(sought.matches, records)))


def number_of_records(path: Path) -> int:
    """Number of records in a file or folder, with those that cannot be read.

    Raises:
        WorkbenchError: the file cannot be read.
    """
    return 0 if path.suffix in CONFIGURATION else sum(1 for _ in stream_rows(path))


def annotators_of(path: Path) -> Counter[str]:
    """Number of records per annotator.

    Raises:
        WorkbenchError: the file cannot be read.
    """
    return _over_records(path, [ANNOTATORS], _names)


def annotators_by_file(files: Mapping[str, Path]) -> dict[str, dict[str, int]]:
    """Name of a data file → annotator → number of their records; for run.json."""
    return {name: dict(annotators_of(path)) for name, path in files.items()}


def _names(records: Iterable[Mapping[str, Any]]) -> Counter[str]:
    names = Counter[str]()
    for fields in records:
        names.update(set(map(str, fields.get("annotators") or ())))
    return names


def _over_records(path: Path, needles: Sequence[bytes], count: Callable[[Iterable[Mapping[str, Any]]], T]) -> T:
    """`count` of the records that hold a needle, and perhaps of others."""
    if path.suffix in CONFIGURATION:
        return count(())
    try:
        if _is_plain(path):
            return count(_lines_with(path, needles))
    except (ValueError, RecursionError):
        pass  # a bad line, or another encoding than UTF-8: the readers know how to go on
    return count(_records(path))


def _is_plain(path: Path) -> bool:
    """Whether a file begins with a line of JSON. The suffix says less: the file may be compressed, or hold a list."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return bool(_parsed(file.readline()))


def _parsed(line: bytes) -> Mapping[str, Any]:
    """The object of a line; ValueError if it holds something else."""
    if not isinstance(fields := json.loads(line), dict):
        raise ValueError(line)
    return fields


def _records(path: Path) -> Iterator[Mapping[str, Any]]:
    """All records. Rows that cannot be read are left out: no run learns from them."""
    return (row.fields for row in stream_rows(path) if row.error is None)


def _lines_with(path: Path, needles: Sequence[bytes]) -> Iterator[Mapping[str, Any]]:
    with path.open("rb") as file:
        rest = b""
        while block := file.read(BLOCK):
            whole, newline, rest = (rest + block).rpartition(b"\n")
            yield from _in_block(whole + newline, needles)
        yield from _in_block(rest, needles)


def _in_block(block: bytes, needles: Sequence[bytes]) -> Iterator[Mapping[str, Any]]:
    if not all(needle.isascii() for needle in needles):
        block.decode()  # in another encoding the needle has other bytes
    starts: set[int] = set()
    for needle in needles:
        at = block.find(needle)
        while at >= 0:
            start, end = block.rfind(b"\n", 0, at) + 1, block.find(b"\n", at)
            if start not in starts:
                starts.add(start)
                yield _parsed(block[start : end if end >= 0 else len(block)])
            at = block.find(needle, end) if end >= 0 else -1


def without(path: Path, out: Path, sought: Sought) -> int:
    """Write the records that are not sought to `out`; returns how many there are.

    Raises:
        WorkbenchError: the file cannot be read.
    """
    kept = [fields for fields in _records(path) if not sought.matches(fields)]
    write_records(out, kept, private=True)
    return len(kept)
