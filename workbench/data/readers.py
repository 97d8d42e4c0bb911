"""Readers of users' files into records, one per purpose, and the writer of records. Knows no tokenizer and no model.

    decode → rows (`files/`) → form → example (`forms/`) → record (`purposes.py`) → checks of the whole file (here)

`Reading` takes the rows through these steps. A bad row is an error with its place and a remedy; `RowRules` decides
whether it stops the reading. Whatever a file loses or changes on the way is counted in one warning.
"""

import json
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

from workbench.data.files.row import Row
from workbench.data.files.rows import stream_rows
from workbench.data.forms.example import Example
from workbench.data.forms.fields import EmptyRow
from workbench.data.purposes import (
    Judged,
    items_of_answers,
    pairs_of_answers,
    rated_answer,
    to_demonstration,
    to_item,
    to_labelled_item,
    to_preferences,
    to_prompt,
    to_rated,
    to_scored,
)
from workbench.data.reading import Reading, say, with_others
from workbench.data.records import (
    Demonstration,
    Item,
    ItemLabel,
    LabelledItem,
    LabelsOf,
    Preference,
    Prompt,
    RatedAnswer,
)
from workbench.data.rules import RowRules
from workbench.run.checkpoints import write_text_atomically
from workbench.run.errors import WorkbenchError

RecordT = TypeVar("RecordT", bound=BaseModel)
_REMEMBERED: dict[tuple[object, ...], tuple[list[tuple[str, Any]], list[dict[str, str]], list[dict[str, Any]]]] = {}
"""(place, record) pairs of the files that this process has read, the rows left out, the masked values. A command checks
its files before it loads a model library, and must not read 100 MB again to train on them. Records are immutable; a
file that changes is read again."""


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
        key = _key(read, path, rules)
        if key not in _REMEMBERED:
            own = RowRules(rules.ignore, rules.bad_rows, rules.rename, rules.mask)
            known = [(row.place, record) for row, record in read(path, own)], own.left_out, own.masked
            if key[1] is not None:
                _REMEMBERED[key] = known
        else:
            known = _REMEMBERED[key]
        records, left_out, masked = known
        rules.masked.extend(masked)
        rules.left_out.extend(row for row in left_out if row not in rules.left_out)
        return [record for _, record in records]

    return reader


def _state(path: str | Path) -> tuple[object, ...] | None:
    """Changes if a file, or a file of a folder, changes; None for data that is not on this disk."""
    top = Path(path)
    files = [file for file in (sorted(top.rglob("*")) if top.is_dir() else [top]) if file.is_file()]
    return tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files) or None


def placed_records(read: Reader[RecordT], path: str | Path, rules: RowRules | None = None) -> list[tuple[str, RecordT]]:
    """The records of a file, each with its place, in the order of the reader.

    Raises:
        WorkbenchError: from the reader.
    """
    records = read(path, rules)
    key = _key(read, path, rules or RowRules())
    return list(_REMEMBERED[key][0]) if key in _REMEMBERED else [(str(path), record) for record in records]


def _key(read: Callable[..., Any], path: str | Path, rules: RowRules) -> tuple[object, ...]:
    return *source_key(path, rules), read.__name__


def source_key(path: str | Path, rules: RowRules) -> tuple[object, ...]:
    """Equal for two readings of a file that return the same."""
    return str(path), _state(path), rules.ignore, rules.bad_rows, rules.rename, rules.mask


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
            path,
            "no two answers to one prompt that differ in their judgement",
            expected="at least one pair",
            remedy="for answers that are good or bad by themselves: method=kto (docs/contrastive.md); sft imitates the "
            "good ones",
        )
    _check_ids(records, lambda record: (record.prompt, record.chosen, record.rejected))
    _report_repeated(path, [(record.prompt, record.chosen, record.rejected) for _, record in records])
    return records


@_remembered
def read_rated_answers(path: str | Path, rules: RowRules) -> list[tuple[Row, RatedAnswer]]:
    """Answers that are good or bad by themselves: marked ones, rated ones, and both sides of pairs.

    A rating is good above the middle of the file's lowest and highest one, and bad below it.

    Raises:
        WorkbenchError: the file or a row of it is bad, or no answer is good or bad.
    """
    reading = Reading(path, "rated answers", rules)
    judged = [answer for _, answers in reading.records(to_rated) for answer in answers]
    ratings = [answer.worth for answer in judged if math.isfinite(answer.worth)]
    middle = (min(ratings) + max(ratings)) / 2 if ratings else 0.0
    records = [(answer.row, rated_answer(answer, above=middle)) for answer in judged if answer.worth != middle]
    if len(records) < len(judged):
        say(f"{path}: {len(judged) - len(records)} of {len(judged)} answers are rated {middle:g}, neither good nor bad")
    if not records:
        raise WorkbenchError(path, "no answer is good or bad", expected="marks, ratings that differ, or decided pairs")
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
    """Prompts with the responses to label; judgements of them are not read.

    Raises:
        WorkbenchError: the file or a row of it is bad, or two different items have the same id.
    """
    return [(row, labelled.item) for row, labelled in _items(Reading(path, "items", rules), to_item)[0]]


@_remembered
def read_labelled_items(path: str | Path, rules: RowRules) -> list[tuple[Row, LabelledItem | LabelsOf]]:
    """Prompts with the responses to label, and with the judgements of them in the file.

    Raises:
        WorkbenchError: the file or a row of it is bad, or two different items have the same id.
    """
    items, about_others = _items(Reading(path, "items", rules), to_labelled_item)
    return [*items, *about_others]


def _items(
    reading: Reading, make: Callable[[Row, Example], LabelledItem | LabelsOf | Judged]
) -> tuple[list[tuple[Row, LabelledItem]], list[tuple[Row, LabelsOf]]]:
    """The items of a file, each once with all judgements of it, and the judgements of items in other files."""
    made = reading.records(make)
    records = [(row, one) for row, one in made if isinstance(one, LabelledItem)]
    joined = items_of_answers([one for _, one in made if isinstance(one, Judged)])
    records += joined.items
    about_others = [(row, one) for row, one in made if isinstance(one, LabelsOf)]
    if joined.alone:
        reading.note(f"left out, since their prompt has no other answer to compare them with: {joined.alone} rows")
    if joined.repeated:
        reading.note(f"left out, since an earlier row rates the same answer: {joined.repeated} rows")
    if not records and not about_others:
        raise WorkbenchError(
            reading.path, "no two different answers to one prompt", expected="at least two answers to compare"
        )
    _check_ids(records, lambda record: record.item)
    distinct = {labelled.id: (row, labelled) for row, labelled in reversed(records)}
    if len(distinct) == len(records):
        return records, about_others
    labels: dict[str, list[ItemLabel]] = {}
    for _, labelled in records:
        labels.setdefault(labelled.id, []).extend(labelled.labels)
    reading.note(f"{len(records) - len(distinct)} of {len(records)} items repeat an earlier one")
    merged = {name: LabelledItem(item=distinct[name][1].item, labels=tuple(own)) for name, own in labels.items()}
    return [(distinct[name][0], labelled) for name, labelled in merged.items()], about_others


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
            raise same_id(row.place, record.id, first.place)


def same_id(place: str, name: str, first: str) -> WorkbenchError:
    """The error for two records with one id and different texts."""
    return WorkbenchError(
        place,
        f"another record has the id {name!r} ({first})",
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
    for key, (read, *_) in _REMEMBERED.items():
        if key[0] == str(path):
            known.update((record, place) for place, record in reversed(read))
    return [known.get(record, str(path)) for record in records]


def record_lines(records: Iterable[BaseModel | Mapping[str, Any]]) -> str:
    """The text of a file of records, one JSON object per line."""
    lines = []
    for record in records:
        value = record.model_dump(mode="json") if isinstance(record, BaseModel) else dict(record)
        lines.append(json.dumps(value, ensure_ascii=False) + "\n")
    return "".join(lines)


def write_records(path: str | Path, records: Iterable[BaseModel | Mapping[str, Any]], *, private: bool = False) -> None:
    """Write records as JSON lines: the whole file or nothing, flushed to disk.

    Args:
        path: to write to.
        records: records, or JSON objects.
        private: only the owner may read the file.
    """
    write_text_atomically(Path(path), record_lines(records), private=private)
