"""Demonstrations, and the token rows that are made of them, in files instead of in memory. Knows no model.

With `data.streaming`, a file is read row by row. Its demonstrations go to a temporary file and are read from there when
they are needed; their token rows go to an Arrow file, which `datasets` maps into memory. Both are sequences as those in
memory are, so that everything after them is the same: the split, the shares, the shuffle, packing, and resuming.
Per demonstration, a few dozen bytes stay in memory: where it is in the file, and hashes of its id and texts.

The files are in a folder of this process in `$WORKBENCH_CACHE` or `~/.cache/alignment-workbench`.
"""

import atexit
import json
import os
import shutil
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from workbench.data.embedded import cache_folder
from workbench.data.files.rows import stream_rows
from workbench.data.hashing import text_digest
from workbench.data.purposes import to_demonstration
from workbench.data.readers import same_id, source_key
from workbench.data.reading import Reading, say
from workbench.data.records import Demonstration
from workbench.data.rules import RowRules
from workbench.run.errors import WorkbenchError
from workbench.run.lock import check_free, hold
from workbench.run.progress import progress

if TYPE_CHECKING:
    from datasets import Dataset

_STORED: dict[tuple[object, ...], tuple["StoredRecords", RowRules]] = {}
"""As in `readers.py`: a command checks its files before it trains on them, and reads each state of a file once."""
_HOPELESS = 1000
"""Rows after which reading stops if none of them was good."""
RecordsT = TypeVar("RecordsT", bound=Sequence[Demonstration])


class StoredRecords(Sequence[Demonstration]):
    """Demonstrations in a file, in the order of `starts`; a record may occur several times."""

    def __init__(self, file: int, starts: np.ndarray, ends: np.ndarray) -> None:
        self._file, self._starts, self._ends = file, starts, ends

    @classmethod
    def write(cls, records: Iterable[tuple[str, Demonstration]]) -> "StoredRecords":
        """Write (place, record) pairs to a file of their own."""
        handle, name = tempfile.mkstemp(dir=_folder())
        os.unlink(name)  # the open file stays until this process ends
        starts = array("q", [0])
        with os.fdopen(os.dup(handle), "wb") as file:
            for place, record in records:
                line = json.dumps([place, record.model_dump(mode="json")], ensure_ascii=False).encode()
                starts.append(starts[-1] + file.write(line))
        edges = np.frombuffer(starts, dtype=np.int64)
        return cls(handle, edges[:-1], edges[1:])

    def __len__(self) -> int:
        return len(self._starts)

    def _read(self, index: int) -> Any:
        start, end = int(self._starts[index]), int(self._ends[index])
        return json.loads(os.pread(self._file, end - start, start))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.take(range(len(self))[index])
        return Demonstration.model_validate(self._read(index)[1])

    def place(self, index: int) -> str:
        """The row that a record was read from."""
        return str(self._read(index)[0])

    def take(self, indices: Sequence[int] | np.ndarray) -> "StoredRecords":
        """The records at these indices, in their order."""
        chosen = np.asarray(indices, dtype=np.int64)
        return StoredRecords(self._file, self._starts[chosen], self._ends[chosen])


def taken(records: Sequence[Demonstration], indices: Sequence[int] | np.ndarray) -> Sequence[Demonstration]:
    """The records at these indices, in their order: a list, or records in the same file."""
    if isinstance(records, StoredRecords):
        return records.take(indices)
    return [records[index] for index in indices]


def store_demonstrations(path: str | Path, rules: RowRules | None = None) -> StoredRecords:
    """The demonstrations that `read_demonstrations` returns, in a file.

    Raises:
        WorkbenchError: as `read_demonstrations`.
    """
    rules = rules or RowRules()
    key = source_key(path, rules)
    if key not in _STORED:
        own = RowRules(rules.ignore, rules.bad_rows, rules.rename, rules.mask)
        _STORED[key] = _stored(path, own), own
    records, known = _STORED[key]
    rules.masked.extend(known.masked)
    rules.left_out.extend(row for row in known.left_out if row not in rules.left_out)
    return records


def _stored(path: str | Path, rules: RowRules) -> StoredRecords:
    reading = Reading(path, "demonstrations", rules, imitated=True)
    outcomes = reading.each(progress(stream_rows(path), description="reading", unit=" rows"), to_demonstration)
    seen = _Seen()
    records = StoredRecords.write(
        (row.place, seen.add(record)) for row, record in reading.good(_unless_hopeless(outcomes))
    )
    if not len(records):
        raise WorkbenchError(path, "it is empty", expected="at least one record")
    seen.check(path, records)
    return records


def _unless_hopeless(outcomes: Iterable[Any]) -> Iterator[Any]:
    good = False
    for number, outcome in enumerate(outcomes, 1):
        good = good or not isinstance(outcome, WorkbenchError)
        yield outcome
        if number >= _HOPELESS and not good:
            return


class _Seen:
    """Hashes of 64 bits of the ids, prompts and whole texts of records."""

    def __init__(self) -> None:
        self._ids, self._prompts, self._texts = array("Q"), array("Q"), array("Q")

    def add(self, record: Demonstration) -> Demonstration:
        """Note a record, and return it."""
        prompt = json.dumps([[message.role, message.content] for message in record.prompt])
        for hashes, parts in (
            (self._ids, (record.id,)),
            (self._prompts, (prompt,)),
            (self._texts, (prompt, record.response)),
        ):
            hashes.append(int.from_bytes(text_digest(*parts)[:8], "big"))
        return record

    def check(self, path: str | Path, records: StoredRecords) -> None:
        """Refuse an id with two prompts, and report records that occur again, as `read_demonstrations` does."""
        ids, prompts = np.frombuffer(self._ids, np.uint64), np.frombuffer(self._prompts, np.uint64)
        order = np.argsort(ids, kind="stable")
        clash = (ids[order][1:] == ids[order][:-1]) & (prompts[order][1:] != prompts[order][:-1])
        if clash.any():
            first, second = (int(index) for index in order[np.argmax(clash) :][:2])
            raise same_id(records.place(second), records[second].id, records.place(first))
        repeated = len(records) - len(np.unique(np.frombuffer(self._texts, np.uint64)))
        if repeated:
            say(f"{path}: {repeated} of {len(records)} records repeat an earlier one; all are used")


class RowFile:
    """Token rows for a trainer that are appended to an Arrow file."""

    def __init__(self) -> None:
        from datasets import Features, List, Value
        from datasets.arrow_writer import ArrowWriter

        features = Features({"input_ids": List(Value("int32")), "completion_mask": List(Value("int8"))})
        handle, self._path = tempfile.mkstemp(dir=_folder(), suffix=".arrow")
        os.close(handle)
        self._writer = ArrowWriter(features=features, path=self._path, writer_batch_size=100)

    def __len__(self) -> int:
        return len(self._writer)

    def append(self, row: dict[str, list[int]]) -> None:
        """Add a row."""
        self._writer.write(row)

    def dataset(self) -> "Dataset":
        """All rows. None can be added after this."""
        from datasets import Dataset

        self._writer.finalize()
        return Dataset.from_file(self._path)


@lru_cache(maxsize=1)
def _folder() -> Path:
    """The folder of this process, which it removes at its end. Those of processes that were killed are removed now."""
    root = cache_folder()
    root.mkdir(parents=True, exist_ok=True)
    for left in root.glob("rows-*"):
        try:
            check_free(left)
        except WorkbenchError:
            continue
        shutil.rmtree(left, ignore_errors=True)
    new = Path(tempfile.mkdtemp(prefix=".rows-", dir=root))
    hold(new)
    folder = new.rename(root / new.name.removeprefix("."))  # locked before it has the name that others look for
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
