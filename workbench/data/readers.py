"""Readers of users' files into records, one per purpose, and the writer of records. Knows no tokenizer and no model.

    decode → rows (`files/`) → form → example (`forms/`) → record (`purposes.py`) → checks of the whole file (here)

`Reading` takes the rows through these steps. A bad row is an error with its place and a remedy; `RowRules` decides
whether it stops the reading. Whatever a file loses or changes on the way is counted in one warning.
"""

import json
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

from workbench.data.files.row import Row
from workbench.data.files.rows import stream_rows
from workbench.data.forms.fields import EmptyRow
from workbench.data.purposes import (
    Judged,
    pairs_of_answers,
    to_demonstration,
    to_item,
    to_preferences,
    to_prompt,
    to_scored,
)
from workbench.data.reading import Reading, say, with_others
from workbench.data.records import Demonstration, Item, Preference, Prompt
from workbench.data.rules import RowRules
from workbench.run.checkpoints import write_text_atomically
from workbench.run.errors import WorkbenchError

RecordT = TypeVar("RecordT", bound=BaseModel)
_REMEMBERED: dict[tuple[object, ...], tuple[list[tuple[str, Any]], list[dict[str, str]]]] = {}
"""(place, record) pairs of the files that this process has read, and the rows that were left out. A command checks its
files before it loads a model library, and must not read 100 MB again to train on them. Records are immutable; a file
that changes is read again."""


class Reader(Protocol[RecordT]):
    """A function from a file to its records."""

    def __call__(self, path: str | Path, rules: RowRules | None = None) -> list[RecordT]:
        """Read the records; rows that are left out are added to the rules."""
        ...


def _remembered(read: Callable[[str | Path, RowRules], list[tuple[Row, RecordT]]]) -> Reader[RecordT]:
    """A reader that reads each state of a file once."""

    @wraps(read)
    def reader(path: str | Path, rules: RowRules | None = None) -> list[RecordT]:
        rules = rules or RowRules()
        key = (str(path), _state(path), read.__name__, rules.ignore, rules.bad_rows)
        if key not in _REMEMBERED:
            own = RowRules(rules.ignore, rules.bad_rows)
            known = [(row.place, record) for row, record in read(path, own)], own.left_out
            if key[1] is not None:
                _REMEMBERED[key] = known
        else:
            known = _REMEMBERED[key]
        records, left_out = known
        rules.left_out.extend(row for row in left_out if row not in rules.left_out)
        return [record for _, record in records]

    return reader


def _state(path: str | Path) -> tuple[object, ...] | None:
    """Changes if a file, or a file of a folder, changes; None for data that is not on this disk."""
    top = Path(path)
    files = sorted(top.rglob("*")) if top.is_dir() else [top] if top.is_file() else []
    return tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files) or None


@_remembered
def read_demonstrations(path: str | Path, rules: RowRules) -> list[tuple[Row, Demonstration]]:
    """Prompts with responses to imitate; answers that are marked as bad are set aside.

    Raises:
        WorkbenchError: the file or a row of it is bad.
    """
    records = Reading(path, "demonstrations", rules, imitated=True).records(to_demonstration)
    _check_ids(records, lambda record: record.prompt)
    _report_repeated(path, [(record.prompt, record.response) for _, record in records])
    return records


@_remembered
def read_preferences(path: str | Path, rules: RowRules) -> list[tuple[Row, Preference]]:
    """Pairs of responses with the preferred one.

    Raises:
        WorkbenchError: the file or a row of it is bad, or no two answers to a prompt are judged differently.
    """
    reading = Reading(path, "preferences", rules)
    made = reading.records(to_preferences)
    records = [(row, pair) for row, pairs in made if isinstance(pairs, list) for pair in pairs]
    paired, alone = pairs_of_answers([answer for _, answer in made if isinstance(answer, Judged)])
    records += paired
    if alone:
        reading.note(f"left out, since their prompt has no other answer to compare them with: {alone} rows")
    if not records:
        raise WorkbenchError(
            path, "no two answers to one prompt that differ in their judgement", expected="at least one pair"
        )
    _check_ids(records, lambda record: (record.prompt, record.chosen, record.rejected))
    _report_repeated(path, [(record.prompt, record.chosen, record.rejected) for _, record in records])
    return records


@_remembered
def read_prompts(path: str | Path, rules: RowRules) -> list[tuple[Row, Prompt]]:
    """The distinct prompts of a file, whatever else its rows hold.

    Raises:
        WorkbenchError: the file or a row of it is bad.
    """
    records = Reading(path, "prompts", rules).records(to_prompt)
    _check_ids(records, lambda record: record.prompt)
    return _distinct(records, lambda record: record.prompt)


@_remembered
def read_items(path: str | Path, rules: RowRules) -> list[tuple[Row, Item]]:
    """Prompts with the responses to label.

    Raises:
        WorkbenchError: the file or a row of it is bad, or two different items have the same id.
    """
    records = Reading(path, "items", rules).records(to_item)
    _check_ids(records, lambda record: record)
    distinct = _distinct(records, lambda record: record.id)
    if len(distinct) < len(records):
        say(f"{path}: {len(records) - len(distinct)} of {len(records)} items repeat an earlier one")
    return distinct


def _distinct(records: Sequence[tuple[Row, RecordT]], key: Callable[[RecordT], Hashable]) -> list[tuple[Row, RecordT]]:
    """The first record per key."""
    first: dict[Hashable, tuple[Row, RecordT]] = {}
    for row, record in records:
        first.setdefault(key(record), (row, record))
    return list(first.values())


def _check_ids(records: Sequence[tuple[Row, Any]], content: Callable[[Any], Hashable]) -> None:
    """Refuse an id with two contents: a split or a store would lose one of them."""
    seen: dict[str, tuple[Row, Hashable]] = {}
    for row, record in records:
        first, known = seen.setdefault(record.id, (row, content(record)))
        if known != content(record):
            raise row.fail(
                f"another record has the id {record.id!r} ({first.place})",
                expected="one id per record",
                remedy="fix the ids, or have them made from the texts: data.ignore=[id] (a verb: --ignore id)",
            )


def _report_repeated(path: str | Path, contents: Sequence[object]) -> None:
    repeated = len(contents) - len(set(contents))
    if repeated:
        say(f"{path}: {repeated} of {len(contents)} records repeat an earlier one; all are used")


def stream_answers(
    path: str | Path, rules: RowRules | None = None
) -> Iterator[Preference | Item | Demonstration | WorkbenchError]:
    """Pairs, items or demonstrations, one per row, from a file of any size.

    A bad row comes as its error; `RowRules.drops` decides about it.

    Raises:
        WorkbenchError: the file is bad, or text of a column would be lost; the records before it have been returned.
    """
    reading = Reading(path, "answers", rules or RowRules())
    for outcome in reading.each(stream_rows(path), to_scored):
        yield outcome if isinstance(outcome, WorkbenchError) else outcome[1]
    reading.report()


def count_answers(path: str | Path, rules: RowRules | None = None) -> int:
    """The number of rows that `stream_answers` returns. An empty answer is not a bad row here: it gets no score.

    Raises:
        WorkbenchError: the file is empty, or holds more bad rows than `rules` leaves out.
    """
    rules = rules or RowRules()
    total = bad = 0
    first: WorkbenchError | None = None
    for record in stream_answers(path, rules):
        total += 1
        if isinstance(record, WorkbenchError) and not isinstance(record, EmptyRow):
            bad, first = bad + 1, first or record
    if not total:
        raise WorkbenchError(path, "it is empty", expected="at least one record")
    if first is not None and (bad == total or not rules.drops(bad, total)):
        raise with_others(first, bad, total)
    return total


def places_of(path: str | Path, records: Iterable[BaseModel]) -> list[str]:
    """The places of records in a file that was read, such as `data.jsonl, line 3`; the file if unknown."""
    known: dict[BaseModel, str] = {}
    for key, (read, _) in _REMEMBERED.items():
        if key[0] == str(path):
            known.update((record, place) for place, record in reversed(read))
    return [known.get(record, str(path)) for record in records]


def write_records(path: str | Path, records: Iterable[BaseModel | Mapping[str, Any]], *, private: bool = False) -> None:
    """Write records as JSON lines: the whole file or nothing, flushed to disk.

    Args:
        path: to write to.
        records: records, or JSON objects.
        private: only the owner may read the file.
    """
    lines = []
    for record in records:
        value = record.model_dump(mode="json") if isinstance(record, BaseModel) else dict(record)
        lines.append(json.dumps(value, ensure_ascii=False) + "\n")
    write_text_atomically(Path(path), "".join(lines), private=private)
