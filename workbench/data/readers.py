"""Readers of users' files into records, and the writer of records. Knows forms and files, no tokenizer and no model.

A broken row stops the reading, with its place, what was expected and the nearest right name; the message counts
the other bad rows. Real files have a stray row that is well formed and teaches nothing (an empty answer, two answers
that are the same): as long as they are rare, such rows are left out and reported.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from workbench.data.fields import WorthlessRow
from workbench.data.forms import (
    DEMONSTRATION_FORMS,
    ITEM_FORMS,
    LABELLED_FORMS,
    PREFERENCE_FORMS,
    PROMPT_FORMS,
    TEXT_FORMS,
    Form,
)
from workbench.data.records import Demonstration, Item, LabelledText, Preference, Prompt
from workbench.data.rules import RowRules, kind_of
from workbench.data.sources import Row, existing, read_rows, read_text, stream_rows
from workbench.run.checkpoints import write_text_atomically
from workbench.run.errors import WorkbenchError, nearest

_log = logging.getLogger(__name__)
RecordT = TypeVar("RecordT", bound=BaseModel)


def read_demonstrations(path: str | Path, rules: RowRules | None = None) -> list[Demonstration]:
    """Prompts with responses to imitate: our records, Alpaca, chat, prompt/completion, prompt/response.

    Raises:
        WorkbenchError: the file or a row of it is bad.
    """
    return _read(path, DEMONSTRATION_FORMS, "demonstrations", rules, lambda record: (record.prompt, record.response))


def read_preferences(path: str | Path, rules: RowRules | None = None) -> list[Preference]:
    """Pairs of responses, one preferred: our records, prompt/chosen/rejected in every shape, HH-RLHF transcripts.

    Raises:
        WorkbenchError: the file or a row of it is bad.
    """
    return _read(
        path, PREFERENCE_FORMS, "preferences", rules, lambda record: (record.prompt, record.chosen, record.rejected)
    )


def read_prompts(path: str | Path, rules: RowRules | None = None) -> list[Prompt]:
    """The distinct prompts of any file of records, in their order.

    Raises:
        WorkbenchError: the file or a row of it is bad.
    """
    distinct: dict[Any, Prompt] = {}
    for record in _read(path, PROMPT_FORMS, "prompts", rules):
        distinct.setdefault(record.prompt, record)
    return list(distinct.values())


def read_items(path: str | Path, rules: RowRules | None = None) -> list[Item]:
    """Prompts with the responses to label: our records, prompt/response_a/response_b, prompt with a list of texts.

    Raises:
        WorkbenchError: the file or a row of it is bad, or two different items have the same id.
    """
    records = _read(path, ITEM_FORMS, "items", rules)
    distinct: dict[str, Item] = {}
    for record in records:
        if distinct.setdefault(record.id, record) != record:
            places = [row.place for row in read_rows(path) if str(row.fields.get("id")) == record.id]
            raise WorkbenchError(
                places[-1], f"another item has the id {record.id!r} ({places[0]})", expected="an id for each item"
            )
    if len(distinct) < len(records):
        _log.warning("%s: %d of %d items repeat an earlier one", path, len(records) - len(distinct), len(records))
    return list(distinct.values())


def read_labelled_texts(path: str | Path, rules: RowRules | None = None) -> list[LabelledText]:
    """Texts with their class.

    Raises:
        WorkbenchError: the file or a row of it is bad.
    """
    return _read(path, LABELLED_FORMS, "labelled texts", rules, lambda record: (record.text, record.label))


def stream_answers(path: str | Path) -> Iterator[Preference | Item | Demonstration | WorthlessRow]:
    """Pairs, items or demonstrations, one after another, whatever the size of the file.

    A row that teaches nothing (an empty answer, say) comes as its error, so that there is one thing for each row.

    Raises:
        WorkbenchError: the file or a row of it is bad; the records before it have come.
    """
    forms: tuple[Form[Any], ...] = (*PREFERENCE_FORMS, *ITEM_FORMS, *DEMONSTRATION_FORMS)
    first: Row | None = None
    form: Form[Any] | None = None
    for row in stream_rows(path):
        if first is None:
            first, form = row, next((form for form in forms if form.fits(row)), None)
        try:
            yield _record(row, first, form, forms, "answers")
        except WorthlessRow as error:
            yield error


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
    return [record.text for record in _read(path, TEXT_FORMS, "texts", None)]


def write_records(path: str | Path, records: Iterable[BaseModel | Mapping[str, Any]], *, private: bool = False) -> None:
    """Write records as JSON lines: the whole file or nothing, flushed to the disk; `private`: for its owner alone."""
    lines = []
    for record in records:
        value = record.model_dump(mode="json") if isinstance(record, BaseModel) else dict(record)
        lines.append(json.dumps(value, ensure_ascii=False) + "\n")
    write_text_atomically(Path(path), "".join(lines), private=private)


_REMEMBERED: dict[tuple[object, ...], tuple[list[Any], list[dict[str, str]]]] = {}
"""Records of files that this process has read: a command checks its files before it loads a model library, and must not
read 100 MB again to train on them. Records are immutable; a file that changes is read anew."""


def _read(
    path: str | Path,
    forms: Sequence[Form[RecordT]],
    kind: str,
    rules: RowRules | None,
    content: Callable[[RecordT], object] | None = None,
) -> list[RecordT]:
    """The records; where `content` is given, one warning counts those that repeat an earlier one's."""
    rules = rules or RowRules()
    seen = _stamp(path)
    key = (str(path), seen, kind, rules.ignore, rules.bad_rows)
    if key not in _REMEMBERED:
        own = RowRules(rules.ignore, rules.bad_rows)
        records = _read_now(path, forms, kind, own)
        if content is not None:
            _report_duplicates(path, [content(record) for record in records])
        if seen is None:
            rules.left_out.extend(own.left_out)
            return records
        _REMEMBERED[key] = (list(records), own.left_out)
    known, left_out = _REMEMBERED[key]
    rules.left_out.extend(row for row in left_out if row not in rules.left_out)
    return list(known)


def _stamp(path: str | Path) -> tuple[object, ...] | None:
    """Changes when a file, or a file of a folder, does; None for what is not on this disk."""
    top = Path(path)
    files = sorted(top.rglob("*")) if top.is_dir() else [top] if top.is_file() else []
    return tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files) or None


def _read_now(path: str | Path, forms: Sequence[Form[RecordT]], kind: str, rules: RowRules) -> list[RecordT]:
    rows = read_rows(path)
    first = next((row for row in rows if row.error is None), rows[0])
    form = next((form for form in forms if form.fits(first)), None)
    records: list[RecordT] = []
    bad: list[WorkbenchError] = []
    for row in rows:
        try:
            records.append(_record(row, first, form, forms, kind))
        except WorkbenchError as error:
            bad.append(error)
    if bad:
        _settle(path, bad, len(rows), rules)
    return records


def _record(row: Row, first: Row, form: Form[RecordT] | None, forms: Sequence[Form[RecordT]], kind: str) -> RecordT:
    """A row's record, in the form of the file's first row."""
    if row.error is not None:
        raise row.error
    if form is None or not form.fits(row):
        other = next((other for other in forms if other.fits(row)), None)
        if form is not None and other is not None and not _prefixes(other, form):
            raise _mixed(row, other.shape(row), first, form.shape(first))
        raise _missing(row, forms if form is None else (form,), kind)
    if form.shape(row) != form.shape(first):
        raise _mixed(row, form.shape(row), first, form.shape(first))
    return form.read(row)


def _prefixes(other: Form[RecordT], form: Form[RecordT]) -> bool:
    """Whether `other` is `form` with fields missing: then a field is missing, and no forms are mixed."""
    return set(other.needs) < set(form.needs)


def _mixed(row: Row, found: str, first: Row, expected: str) -> WorkbenchError:
    return row.fail(
        f"mixed forms in one file: this row has {found}",
        expected=f"{expected}, as in {first.place}",
        remedy="put each form into a file of its own",
    )


def _missing(row: Row, forms: Iterable[Form[Any]], kind: str) -> WorkbenchError:
    """The error for a row that lacks a field: by the form it comes nearest to."""
    candidates = list(forms)

    def closeness(form: Form[Any]) -> float:
        alike = [1.0 if name in row.fields else 0.7 if nearest(name, row.fields) else 0.0 for name in form.needs]
        return sum(alike) / len(alike)

    best = max(candidates, key=closeness)
    found = ", ".join(map(str, row.fields)) or "nothing"
    if closeness(best) == 0:
        wanted = "; or ".join(form.name for form in candidates)
        return row.fail(f"no fields of {kind}; found: {found}", expected=wanted, remedy="rename the columns")
    absent = [name for name in best.needs if name not in row.fields]
    unused = [name for name in row.fields if name not in (*best.needs, *best.may_have)]
    close = {name: nearest(name, unused) for name in absent}
    renames = [f"rename {found!r} to {name!r}" for name, found in close.items() if found]
    return row.fail(
        f"field {', '.join(map(repr, absent))} is missing; found: {found}",
        expected=f"{kind} with the fields {best.name}",
        remedy=f"did you mean {close[absent[0]]!r}? {'; '.join(renames)}"
        if close[absent[0]]
        else f"add {absent[0]!r} to each row",
    )


def _settle(path: str | Path, bad: Sequence[WorkbenchError], rows: int, rules: RowRules) -> None:
    """Stop at the first bad row, or leave the bad rows out with one warning that counts each kind."""
    if not rules.drops(len(bad), rows) or len(bad) == rows:
        further = f" (and {len(bad) - 1} more bad rows of {rows})" if len(bad) > 1 else ""
        first = bad[0]
        raise WorkbenchError(first.place, first.problem + further, expected=first.expected, remedy=first.remedy)
    kinds: dict[str, list[str]] = {}
    for error in bad:
        kinds.setdefault(kind_of(error), []).append(error.place.removeprefix(f"{path}, "))
        rules.left_out.append({"place": error.place, "problem": error.problem})
    counted = "; ".join(f"{len(places)} × {kind} ({_some(places)})" for kind, places in kinds.items())
    _log.warning("%s: left out %d of %d rows: %s", path, len(bad), rows, counted)


def _some(places: Sequence[str], shown: int = 5) -> str:
    more = f" and {len(places) - shown} more" if len(places) > shown else ""
    return ", ".join(places[:shown]) + more


def _report_duplicates(path: str | Path, contents: Sequence[object]) -> None:
    duplicates = len(contents) - len(set(contents))
    if duplicates:
        _log.warning("%s: %d of %d records repeat an earlier one; all are used", path, duplicates, len(contents))
