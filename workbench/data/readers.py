"""Readers of users' files into records, and the writer of records. Knows forms and files, no tokenizer and no model.

A bad row has its place, what was expected and the nearest right name; `RowRules` says whether it stops the reading.
What a file loses or changes on the way (rows left out, columns unread, conversations cut) is counted and said once.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from workbench.data.files.json_rows import NESTED
from workbench.data.files.row import Row
from workbench.data.files.rows import existing, read_text, stream_rows
from workbench.data.forms.fields import EmptyRow, not_blank, text_of
from workbench.data.forms.missing import missing
from workbench.data.purposes import to_demonstration, to_item, to_preferences, to_scored
from workbench.data.reading import Fatal, Reading, check_ids, report_duplicates, say, with_others
from workbench.data.records import Demonstration, Item, LabelledText, Preference, Prompt, content_id
from workbench.data.rules import RowRules
from workbench.run.checkpoints import write_text_atomically
from workbench.run.errors import WorkbenchError

RecordT = TypeVar("RecordT", bound=BaseModel)
Placed = list[tuple[str, RecordT]]
"""Records with the place of each."""


def read_demonstrations(path: str | Path, rules: RowRules | None = None) -> list[Demonstration]:
    """Prompts with responses to imitate, in any form of docs/data.md; answers that are marked as bad are set aside.

    Raises:
        WorkbenchError: the file or a row of it is bad.
    """
    return _remembered(path, rules, _demonstrations)


def _demonstrations(path: str | Path, rules: RowRules) -> Placed[Demonstration]:
    reading = Reading(path, "demonstrations", rules, imitated=True)
    records = reading.each(lambda row, example: to_demonstration(row, example))
    check_ids(path, records, lambda record: record.prompt)
    report_duplicates(path, [(record.prompt, record.response) for _, record in records])
    return _placed(records)


def read_preferences(path: str | Path, rules: RowRules | None = None) -> list[Preference]:
    """Pairs of responses, one preferred, in any form of docs/data.md.

    Raises:
        WorkbenchError: the file or a row of it is bad, or no two answers to one prompt are judged.
    """
    return _remembered(path, rules, _preferences)


def _preferences(path: str | Path, rules: RowRules) -> Placed[Preference]:
    reading = Reading(path, "preferences", rules)
    records, bad, alone = to_preferences(reading.parsed())
    reading.settle(bad)
    if alone:
        reading.note(f"left out, since their prompt has no other answer to compare them with: {alone} rows")
    if not records:
        raise WorkbenchError(
            path, "no two answers to one prompt that differ in their judgement", expected="at least one pair"
        )
    check_ids(path, records, lambda record: (record.prompt, record.chosen, record.rejected))
    report_duplicates(path, [(record.prompt, record.chosen, record.rejected) for _, record in records])
    return _placed(records)


def read_prompts(path: str | Path, rules: RowRules | None = None) -> list[Prompt]:
    """The distinct prompts of any file of records, in their order.

    Raises:
        WorkbenchError: the file or a row of it is bad.
    """
    return _remembered(path, rules, _prompts)


def _prompts(path: str | Path, rules: RowRules) -> Placed[Prompt]:
    records = Reading(path, "prompts", rules).prompts()
    check_ids(path, records, lambda record: record.prompt)
    distinct: dict[Any, tuple[Row, Prompt]] = {}
    for row, record in records:
        distinct.setdefault(record.prompt, (row, record))
    return _placed(distinct.values())


def read_items(path: str | Path, rules: RowRules | None = None) -> list[Item]:
    """Prompts with the responses to label, in any form of docs/data.md.

    Raises:
        WorkbenchError: the file or a row of it is bad, or two different items have the same id.
    """
    return _remembered(path, rules, _items)


def _items(path: str | Path, rules: RowRules) -> Placed[Item]:
    reading = Reading(path, "items", rules)
    records = reading.each(to_item)
    check_ids(path, records, lambda record: record)
    distinct = {record.id: (row, record) for row, record in records}
    if len(distinct) < len(records):
        say(f"{path}: {len(records) - len(distinct)} of {len(records)} items repeat an earlier one")
    return _placed(distinct.values())


def read_labelled_texts(path: str | Path, rules: RowRules | None = None) -> list[LabelledText]:
    """Texts with their class.

    Raises:
        WorkbenchError: the file or a row of it is bad.
    """
    return _remembered(path, rules, _labelled_texts)


def _labelled_texts(path: str | Path, rules: RowRules) -> Placed[LabelledText]:
    reading = Reading(path, "labelled texts", rules)
    records = reading.rows(_labelled)
    report_duplicates(path, [(record.text, record.label) for _, record in records])
    return _placed(records)


def _labelled(row: Row) -> LabelledText:
    if "text" not in row.fields or "label" not in row.fields:
        raise missing(row, "labelled texts")
    label = row.fields["label"]
    if not isinstance(label, str | int) or not str(label).strip():
        raise row.fail(f"'label' is {label!r}", expected="a class, as text or a whole number")
    text = not_blank(row, "text", text_of(row, "text"))
    given = row.fields.get("id")
    name = str(given) if isinstance(given, str | int) and str(given) else content_id([text])
    return LabelledText(id=name, text=text, label=str(label))


def stream_answers(
    path: str | Path, rules: RowRules | None = None
) -> Iterator[Preference | Item | Demonstration | WorkbenchError]:
    """Pairs, items or demonstrations, one after another, whatever the size of the file.

    A bad row comes as its error, so that there is one thing for each row; `RowRules.drops` says what to make of them.

    Raises:
        WorkbenchError: the file is bad, or a column of it would be lost; the records before it have come.
    """
    reading = Reading(path, "answers", rules or RowRules())
    for row in stream_rows(path):
        reading.count()
        try:
            yield to_scored(*reading.parse(row))
        except Fatal as error:
            raise error.cause from None
        except WorkbenchError as error:
            yield error
        except RecursionError:
            yield row.fail(NESTED, expected="texts and lists of messages")
    reading.report()


def count_answers(path: str | Path, rules: RowRules | None = None) -> int:
    """The number of rows that `stream_answers` gives. An empty answer is not a bad row here: it has no score.

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


def read_texts(path: str | Path) -> list[str]:
    """Running text, for perplexity: a plain `.txt` file as one text, or the `text` field of each row.

    Raises:
        WorkbenchError: the file is missing, empty, or holds no text.
    """
    if Path(path).suffix.lower() == ".txt":
        text = read_text(existing(Path(path)))
        if not text.strip():
            raise WorkbenchError(path, "it is empty", expected="some text")
        return [text]

    def text_record(row: Row) -> LabelledText:
        if "text" not in row.fields:
            raise missing(row, "texts")
        return LabelledText(id="text", text=not_blank(row, "text", text_of(row, "text")), label="text")

    return [record.text for _, record in Reading(path, "texts", RowRules()).rows(text_record)]


def write_records(path: str | Path, records: Iterable[BaseModel | Mapping[str, Any]], *, private: bool = False) -> None:
    """Write records as JSON lines: the whole file or nothing, flushed to the disk; `private`: for its owner alone."""
    lines = []
    for record in records:
        value = record.model_dump(mode="json") if isinstance(record, BaseModel) else dict(record)
        lines.append(json.dumps(value, ensure_ascii=False) + "\n")
    write_text_atomically(Path(path), "".join(lines), private=private)


_REMEMBERED: dict[tuple[object, ...], tuple[Placed[Any], list[dict[str, str]]]] = {}
"""Records of files that this process has read, and the rows that were left out. A command checks its files before it
loads a model library, and must not read 100 MB again to train on them. Records are immutable; a file that changes is
read anew."""


def _remembered(
    path: str | Path, rules: RowRules | None, read: Callable[[str | Path, RowRules], Placed[RecordT]]
) -> list[RecordT]:
    """What `read` makes of a file, once for each state of it; the rows that it leaves out are added to the rules."""
    rules = rules or RowRules()
    seen = _stamp(path)
    key = (str(path), seen, read.__name__, rules.ignore, rules.bad_rows)
    if key not in _REMEMBERED:
        own = RowRules(rules.ignore, rules.bad_rows)
        records = read(path, own)
        if seen is None:
            rules.left_out.extend(own.left_out)
            return [record for _, record in records]
        _REMEMBERED[key] = (records, own.left_out)
    known, left_out = _REMEMBERED[key]
    rules.left_out.extend(row for row in left_out if row not in rules.left_out)
    return [record for _, record in known]


def _placed(records: Iterable[tuple[Row, RecordT]]) -> Placed[RecordT]:
    return [(row.place, record) for row, record in records]


def places_of(path: str | Path, records: Iterable[BaseModel]) -> list[str]:
    """Where these records of a file that was read stand in it, such as `data.jsonl, line 3`; the file where unknown."""
    known: dict[BaseModel, str] = {}
    for key, (read, _) in _REMEMBERED.items():
        if key[0] == str(path):
            known.update((record, place) for place, record in reversed(read))
    return [known.get(record, str(path)) for record in records]


def _stamp(path: str | Path) -> tuple[object, ...] | None:
    """Changes when a file, or a file of a folder, does; None for what is not on this disk."""
    top = Path(path)
    files = sorted(top.rglob("*")) if top.is_dir() else [top] if top.is_file() else []
    return tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files) or None
