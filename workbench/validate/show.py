"""The report in the terminal."""

import os
import sys
from collections.abc import Iterator

from workbench.evaluate.charts import visible
from workbench.validate.examine import Examined, Report, name_of
from workbench.validate.findings import Finding
from workbench.validate.tokens import Shown

_COLOURS = {"error": "31;1", "warning": "33", "note": "36", "special": "35", "special loss": "35;42", "loss": "32"}
_MARKS = {"special": "⟨{}⟩", "special loss": "⟦⟨{}⟩⟧", "loss": "⟦{}⟧"}
"""Without colours, tokens in the loss are in ⟦ ⟧ and special tokens in ⟨ ⟩."""
_ROWS = 3
"""Rows that are shown per finding; the page has more."""
_LONGEST = 700
"""Characters of a piece of an example that are shown."""


def lines(report: Report, *, colour: bool | None = None) -> Iterator[str]:
    """The report, line by line.

    Args:
        report: of all files.
        colour: None: if the output is a terminal and NO_COLOR is not set.
    """
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR") if colour is None else colour
    for one in report.files:
        yield from _about(one, report)
    yield ""
    for finding in report.findings:
        yield from _finding(finding, report, coloured)
    yield _verdict(report)
    for one in report.files[:1]:
        for shown in one.tokens.examples if one.tokens else ():
            yield ""
            yield from _example(shown, coloured)


def _about(one: Examined, report: Report) -> Iterator[str]:
    counts = f"{one.read.rows:,} rows, {len(one.entries):,} records"
    yield f"{one.read.path}: read for {report.purpose} as {one.read.form}; {counts}"
    for note in one.read.notes:
        yield f"  reader: {note}"
    if one.tokens is not None:
        yield f"  tokens ({one.tokens.base}, {one.tokens.positions:,} positions): {one.tokens.summary}"
    elif one.entries:
        yield "  tokens: not counted; --base NAME counts them and shows examples as they are trained"
    for name, numbers in (("languages", one.languages), ("labels", one.labels)):
        if numbers:
            yield f"  {name}: {', '.join(f'{key} {count:,}' for key, count in list(numbers.items())[:12])}"
    for share in one.shares:
        yield f"  {share.name}: {share.share:.1%} ({share.low:.1%} to {share.high:.1%} of {share.count:,})"


def _finding(finding: Finding, report: Report, coloured: bool) -> Iterator[str]:
    title = _painted(f"{finding.level} {finding.kind}", finding.level, coloured)
    yield f"{title}  {name_of(finding.file, report.files)}: {finding.message}"
    for spot in finding.spots[:_ROWS] if finding.kind != "refused" else ():
        yield f"    {spot.place.removeprefix(f'{finding.file}, ')}: {visible(spot.text)}"
    if len(finding.spots) > _ROWS:
        yield f"    and {len(finding.spots) - _ROWS:,} more"
    yield f"    remedy: {finding.remedy}"


def _verdict(report: Report) -> str:
    levels = [finding.level for finding in report.findings]
    if "error" in levels:
        refused = len({finding.file for finding in report.findings if finding.level == "error"})
        return f"{report.purpose} refuses {refused} of {len(report.files)} files"
    kinds = levels.count("warning")
    return f"{kinds} kind{'s' * (kinds > 1)} of findings" if kinds else "clean: no findings"


def _example(shown: Shown, coloured: bool) -> Iterator[str]:
    yield f"{shown.title}, as trained ({shown.place}): {shown.tokens:,} tokens, {shown.marked:,} in the loss or scored"
    yield "".join(_painted(_cut(piece.text), piece.kind, coloured) for piece in shown.pieces)


def _cut(text: str) -> str:
    text = visible(text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"


def _painted(text: str, kind: str, coloured: bool) -> str:
    if not coloured:
        return _MARKS.get(kind, "{}").format(text)
    return f"\x1b[{_COLOURS[kind]}m{text}\x1b[0m" if kind in _COLOURS else text
