"""One file as a phase reads it: its records with their places, and each row that the phase does not take.

The records, the refusal and the notes come from the phase's own reader. A second pass with the same parser collects
every bad row, of which the reader reports the first.
"""

import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from workbench.data.files.row import Row
from workbench.data.files.rows import stream_rows
from workbench.data.forms.answers import BEGINS, REPEATED
from workbench.data.forms.example import Example
from workbench.data.forms.fields import EmptyRow, SetAside
from workbench.data.forms.table import canonical, canonical_name, form_of
from workbench.data.labelled import Columns, labelled_row, read_labelled
from workbench.data.purposes import to_demonstration, to_labelled_item, to_preferences, to_prompt
from workbench.data.readers import (
    placed_records,
    read_demonstrations,
    read_labelled_items,
    read_preferences,
    read_prompts,
)
from workbench.data.reading import EMPTY, MARKS, Reading
from workbench.data.records import LabelledItem
from workbench.data.rules import RowRules
from workbench.run.errors import WorkbenchError
from workbench.run.progress import progress
from workbench.validate.findings import Finding, Spot, rows_finding

Purpose = Literal["sft", "classify", "reward", "ppo", "annotate"]
_LOOKED_AT = 20
"""Rows from which the purpose of a file is guessed."""
_READERS: dict[str, tuple[str, Callable[[Row, Example], Any], Callable[..., Any]]] = {
    "sft": ("demonstrations", to_demonstration, read_demonstrations),
    "reward": ("preferences", to_preferences, read_preferences),
    "ppo": ("prompts", to_prompt, read_prompts),
    "annotate": ("items", to_labelled_item, read_labelled_items),
}
"""Purpose → its name for `Reading`, what makes a record of a row, and the phase's reader."""
_ERRORS: tuple[tuple[str, str], ...] = (
    ("duplicate-key", r"broken JSON: the key '.*' appears twice"),
    ("broken-row", r"broken (JSON|CSV)|nested too deeply|a JSON \w+, not an object|it has \d+ cells|holds a list that"),
    ("bad-bytes", r"not UTF-8: byte"),
    ("half-character", r"half a character"),
    ("mixed-forms", r"mixed forms|unlike the first row"),
    ("missing-column", r"field .* is missing|fields .* are missing|no fields of|no column|has no '"),
    ("id-conflict", r"another record has the id"),
    ("tool-call", r"a conversation with tools"),
    ("no-judgement", r"nobody's judgement|names neither answer|is rated|judges answers"),
    ("wrong-role", r"ends with|has the turns|has only the turns|\.(role|from)' is"),
    ("same-answers", r"are the same|have the same text"),
    ("wrong-type", r"' is (a |an |true|text|None|-?\d|\[|\{|')|a part that is not text|is a list of|Input should be"),
)
"""Kind → what its errors look like, the first that fits; the problem texts are those of the readers."""
_CHANGES = {MARKS: "speaker-mark", REPEATED: "prompt-repeated", BEGINS: "prompt-repeated", EMPTY: "empty-text"}


@dataclass
class FileRead:
    """A file and its records."""

    path: str
    purpose: Purpose
    form: str = ""
    """The columns that it is recognised by."""
    rows: int = 0
    records: list[tuple[str, Any]] = field(default_factory=list)
    """(place, record) in the order of the file."""
    first_answer_better: list[bool] = field(default_factory=list)
    """Per judgement of two answers whose order the file did not choose by quality: whether the first one won."""
    judged_twice: list[bool] = field(default_factory=list)
    """Per pair of judgements of the same two answers: whether they agree."""
    refused: WorkbenchError | None = None
    notes: list[str] = field(default_factory=list)
    """What the reader says about changed rows and unread columns."""
    findings: list[Finding] = field(default_factory=list)


def guess_purpose(path: str | Path, columns: Columns, ignore: tuple[str, ...] = ()) -> Purpose:
    """The phase that a file is for, by the form of its first rows; sft if none of them has a form."""
    ignored = frozenset(canonical_name(name) for name in ignore)
    needed = {canonical_name(name) for name in (columns.text, *columns.labels)}
    for number, row in enumerate(stream_rows(path)):
        if number >= _LOOKED_AT:
            break
        if row.error is not None:
            continue
        row = canonical(row, ignored)
        form = form_of(row)
        if needed <= set(row.fields) and (form is None or form.example is None):
            return "classify"
        if form is None:
            continue
        if form.example is None:
            return "ppo"
        try:
            example = form.example(row)
        except WorkbenchError:
            continue
        if len(example.responses) == 1:
            return "reward" if example.good is not None or example.ratings else "sft"
        judged = example.strength is not None or example.ratings or example.record is not None
        return "reward" if judged and "responses" not in row.fields else "annotate"
    return "sft"


def read_file(path: str, purpose: Purpose, rules: RowRules, columns: Columns, *, quiet: bool = False) -> FileRead:
    """Read a file as the phase does; what the phase refuses is in the result, not raised."""
    found = FileRead(path, purpose)
    with heard() as messages:
        bad = _each_row(found, rules, columns, quiet=quiet)
        _as_the_phase(found, rules, columns)
    found.notes = [text.removeprefix(f"{path}: ") for _, text in messages]
    if found.refused is not None:
        spot = Spot(found.refused.place, found.refused.problem, found.refused.remedy or "")
        found.findings.append(Finding("refused", path, found.refused.problem, (spot,)))
        if not any(error.place == found.refused.place for errors in bad.values() for error in errors):
            bad[kind_of_error(found.refused)].append(found.refused)
    for kind, errors in bad.items():
        places = {error.place: error for error in reversed(errors) if error.place != path}
        spots = [Spot(e.place, e.problem, e.remedy or "") for e in reversed(places.values())]
        found.findings += rows_finding(kind, path, spots, found.rows)
    if any(name.endswith("decoding") for name, _ in messages):
        texts = [text for name, text in messages if name.endswith("decoding")]
        found.findings.append(Finding("encoding", path, texts[0].removeprefix(f"{path}: ")))
    return found


def kind_of_error(error: WorkbenchError) -> str:
    """The kind of finding that a reader's error is."""
    fits = next((kind for kind, pattern in _ERRORS if re.search(pattern, error.problem)), None)
    if isinstance(error, EmptyRow):
        return fits if fits == "same-answers" else "empty-text"
    return "set-aside" if isinstance(error, SetAside) else fits or "bad-row"


def _each_row(
    found: FileRead, rules: RowRules, columns: Columns, *, quiet: bool
) -> defaultdict[str, list[WorkbenchError]]:
    """Parse every row; fills in the form, the findings about read rows, and returns the errors by kind."""
    bad: defaultdict[str, list[WorkbenchError]] = defaultdict(list)
    places: list[str] = []
    if found.purpose == "classify":
        reading = Reading(found.path, "labelled texts", rules)
        outcomes: Iterator[Any] = reading.each_row(_rows(found, quiet), lambda row: labelled_row(row, columns))
    else:
        name, make, _ = _READERS[found.purpose]
        reading = Reading(found.path, name, rules, imitated=found.purpose == "sft")
        outcomes = reading.each(_rows(found, quiet), lambda row, example: _seen(found, row, example, make))
    try:
        for outcome in outcomes:
            if isinstance(outcome, WorkbenchError):
                bad[kind_of_error(outcome)].append(outcome)
            else:
                places.append(outcome[0].place)
    except (WorkbenchError, MemoryError):
        pass  # the phase's reader raises it again, as the refusal
    found.form = reading.form or ", ".join((columns.text, *columns.labels))
    for note, where in reading.changes.items():
        kind = _CHANGES.get(note)
        if kind is not None:
            found.findings += rows_finding(kind, found.path, [Spot(place, note) for place in where], found.rows)
    if reading.unused:
        found.findings.append(
            Finding("unused-column", found.path, f"columns that are not read: {', '.join(reading.unused)}")
        )
    return bad


def _rows(found: FileRead, quiet: bool) -> Iterator[Row]:
    for row in progress(stream_rows(found.path), description=Path(found.path).name, unit=" rows", quiet=quiet):
        found.rows += 1
        yield row


def _seen(found: FileRead, row: Row, example: Example, make: Callable[[Row, Example], Any]) -> Any:
    """The record of a row; notes judgements of two answers before a preference puts the better one first."""
    made = make(row, example)
    shown = not example.best_first and example.record is None and len(example.responses) == 2
    strengths = [vote.strength for vote in example.votes] or [example.strength or 0.0]
    if shown:
        found.first_answer_better += [strength > 0 for strength in strengths if strength]
    return made


def _as_the_phase(found: FileRead, rules: RowRules, columns: Columns) -> None:
    """Read as the phase does; if it refuses, read what it could take with looser rules, for the other checks."""
    own = RowRules(rules.ignore, rules.bad_rows)
    loose = replace(own, bad_rows="skip", left_out=[])
    without_ids = replace(loose, ignore=(*rules.ignore, "id"), left_out=[])
    last = ""
    for attempt in (own, loose, without_ids):
        if attempt is without_ids and last != "id-conflict":
            return
        try:
            found.records = _records(found, attempt, columns)
            return
        except WorkbenchError as error:
            found.refused = found.refused or error
            last = kind_of_error(error)
        except MemoryError:
            raise WorkbenchError(found.path, "it does not fit into memory", remedy="split the file") from None


def _records(found: FileRead, rules: RowRules, columns: Columns) -> list[tuple[str, Any]]:
    if found.purpose == "classify":
        file = read_labelled(found.path, columns, rules)
        return list(zip(file.places, file.records, strict=True))
    records = placed_records(_READERS[found.purpose][2], found.path, rules)
    if found.purpose == "annotate":
        found.judged_twice = [
            _agree(one) for _, one in records if isinstance(one, LabelledItem) and len(one.labels) > 1
        ]
        return [(place, one) for place, one in records if isinstance(one, LabelledItem)]
    return records


def _agree(item: LabelledItem) -> bool:
    """Whether the first two judgements of an item are the same side."""
    first, second = (label.strength for label in item.labels[:2])
    return (first or 0) * (second or 0) > 0 or first == second


@contextmanager
def heard() -> Iterator[list[tuple[str, str]]]:
    """(logger, message) of each warning of the readers, which are not printed."""
    messages: list[tuple[str, str]] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append((record.name, record.getMessage()))

    logger, listener = logging.getLogger("workbench.data"), Listener()
    before = logger.propagate
    logger.addHandler(listener)
    logger.propagate = False
    try:
        yield messages
    finally:
        logger.removeHandler(listener)
        logger.propagate = before
