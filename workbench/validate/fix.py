"""A cleaned copy of files, and a list of everything that was changed. The originals stay as they are."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from workbench.data.files.decoding import stem
from workbench.data.files.row import Row
from workbench.data.files.rows import stream_rows
from workbench.run.checkpoints import write_text_atomically
from workbench.run.errors import WorkbenchError
from workbench.run.outputs import check_outputs
from workbench.validate.examine import Examined, Report
from workbench.validate.texts import CONTROL

DROPPED = (
    *("broken-row", "duplicate-key", "bad-bytes", "half-character", "missing-column", "wrong-type", "wrong-role"),
    *("tool-call", "template-refuses", "empty-text", "same-answers", "no-judgement", "bad-row"),
    *("repetition", "placeholder", "echo", "exact-duplicate", "leaked-row", "leaked-prompt", "leaked-near"),
    *("contradiction", "preference-cycle", "mixed-forms"),
)
"""Kinds whose rows are left out."""
CHANGES = "changes.jsonl"
_WINDOWS = {chr(code): bytes([code]).decode("cp1252", errors="ignore") for code in range(0x80, 0xA0)}


def write_fixed(report: Report, folder: Path) -> list[str]:
    """Write each file as NAME.jsonl without the rows of `DROPPED`, and `changes.jsonl` with a line per change.

    Texts lose invisible control characters and, in answers, blanks at both ends. All else is a decision of the user.

    Returns:
        a line per file.

    Raises:
        WorkbenchError: two files would have the same name, or one is an input or a folder.
    """
    outputs = {one.read.path: folder / f"{_stem(Path(one.read.path))}.jsonl" for one in report.files}
    check_outputs(
        {**outputs, "the changes": folder / CHANGES},
        map(Path, outputs),
        remedy="--fix ANOTHER-FOLDER, or rename an input",
    )
    said, changes = [], []
    for one in report.files:
        lines, own = _fixed(one, report)
        if not lines:
            said.append(f"{outputs[one.read.path]}: not written, no row is left")
            continue
        write_text_atomically(outputs[one.read.path], "".join(lines))
        changes += own
        counts = Counter(change["kind"] for change in own)
        listed = ", ".join(f"{kind} {count:,}" for kind, count in counts.most_common()) or "nothing changed"
        said.append(f"{outputs[one.read.path]}: {len(lines):,} of {one.read.rows:,} rows ({listed})")
    write_text_atomically(folder / CHANGES, "".join(json.dumps(c, ensure_ascii=False) + "\n" for c in changes))
    return [*said, f"{folder / CHANGES}: {len(changes):,} changes"]


def _fixed(one: Examined, report: Report) -> tuple[list[str], list[dict[str, str]]]:
    """The rows that stay, as JSON lines, and the changes."""
    own = [finding for finding in report.findings if finding.file == one.read.path]
    dropped: dict[str, tuple[str, str]] = {}
    for finding in own:
        for spot in finding.spots if finding.kind in DROPPED else ():
            dropped.setdefault(spot.place, (finding.kind, spot.text))
    padded = {spot.place for finding in own if finding.kind == "outer-whitespace" for spot in finding.spots}
    answers = {entry.place: entry.answers[0].strip() for entry in one.entries if entry.place in padded}
    ids = any(finding.kind == "id-conflict" for finding in own)
    lines: list[str] = []
    changes: list[dict[str, str]] = []

    def note(place: str, change: str, kind: str, why: str) -> None:
        changes.append({"place": place, "change": change, "kind": kind, "why": why})

    for row in _rows(one.read.path):
        if row.place in dropped or row.error is not None:
            kind, text = dropped.get(row.place, ("broken-row", row.error.problem if row.error else ""))
            note(row.place, "left out", kind, text)
            continue
        fields = {**row.fields, **dict.fromkeys(sorted(row.nulls))}
        if ids and fields.pop("id", None) is not None:
            note(row.place, "id removed: it will be made from the text", "id-conflict", "one id for different records")
        clean = _repaired(fields)
        if clean != fields:
            note(row.place, "invisible characters removed", "control-character", "")
        if row.place in answers:
            clean = _stripped(clean, answers[row.place])
            note(row.place, "blanks around the answer removed", "outer-whitespace", "")
        lines.append(json.dumps(clean, ensure_ascii=False, default=str) + "\n")
    return lines, changes


def _rows(path: str) -> Iterator[Row]:
    """The rows of a file up to where it cannot be read further; the refusal is already in the report."""
    try:
        yield from stream_rows(path)
    except WorkbenchError:
        return


def _repaired(value: Any) -> Any:
    """A value without invisible control characters; 0x80 to 0x9f are read as the Windows-1252 that they mostly were."""
    if isinstance(value, str):
        return CONTROL.sub(lambda found: _WINDOWS.get(found.group(), ""), value)
    if isinstance(value, Mapping):
        return {key: _repaired(entry) for key, entry in value.items()}
    return [_repaired(entry) for entry in value] if isinstance(value, list | tuple) else value


def _stripped(value: Any, answer: str) -> Any:
    """A value in which texts that are this answer have no blanks around them."""
    if isinstance(value, str):
        return value.strip() if value.strip() == answer else value
    if isinstance(value, Mapping):
        return {key: _stripped(entry, answer) for key, entry in value.items()}
    return [_stripped(entry, answer) for entry in value] if isinstance(value, list | tuple) else value


def _stem(path: Path) -> str:
    return re.sub(r"[^\w.-]", "_", stem(path))
