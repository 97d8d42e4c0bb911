"""Who and what is in a data file: the records of an annotator or with an id, and the annotators of all records.

A plain JSONL file is searched as bytes, and only lines that hold the sought text are parsed. Other formats go through
their readers. Knows files, no runs.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.data.files.rows import stream_rows
from workbench.data.readers import write_records

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
    if path.is_file() and path.suffix == ".jsonl":
        return sum(_sought_lines(path, sought))
    return sum(map(sought.matches, _records(path)))


def _records(path: Path) -> Iterator[Mapping[str, Any]]:
    for row in stream_rows(path):
        if row.error is not None:
            raise row.error
        yield row.fields


def _sought_lines(path: Path, sought: Sought) -> Iterator[bool]:
    """For every line that holds a needle, whether its record is sought."""
    needles = sought.needles
    with path.open("rb") as file:
        rest = b""
        while block := file.read(BLOCK):
            whole, newline, rest = (rest + block).rpartition(b"\n")
            yield from _in_block(whole + newline, needles, sought)
        yield from _in_block(rest, needles, sought)


def _in_block(block: bytes, needles: list[bytes], sought: Sought) -> Iterator[bool]:
    starts: set[int] = set()
    for needle in needles:
        at = block.find(needle)
        while at >= 0:
            start, end = block.rfind(b"\n", 0, at) + 1, block.find(b"\n", at)
            if start not in starts:
                starts.add(start)
                yield sought.matches(json.loads(block[start : end if end >= 0 else len(block)]))
            at = block.find(needle, end) if end >= 0 else -1


def without(path: Path, out: Path, sought: Sought) -> int:
    """Write the records that are not sought to `out`; returns how many there are.

    Raises:
        WorkbenchError: the file cannot be read.
    """
    kept = [fields for fields in _records(path) if not sought.matches(fields)]
    write_records(out, kept, private=True)
    return len(kept)


def annotators_of(path: Path) -> tuple[int, Counter[str]]:
    """Number of records, and of the records per annotator."""
    records, names = 0, Counter[str]()
    for fields in _records(path):
        records += 1
        names.update(set(map(str, fields.get("annotators") or ())))
    return records, names
