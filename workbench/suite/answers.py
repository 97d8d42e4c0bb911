"""Sampled answers of a suite in a file, which a killed command continues."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from workbench.evaluate.evaluation import Answer
from workbench.run.partial import PartialOutput, append_lines, lines_of
from workbench.run.progress import progress


class Answers:
    """The answers of each column to each kind of prompts: one line per pair of them.

    A context: the file gets its name at the end, unless an error ends it.

    Args:
        out: the complete file.
        made_from: fingerprints of everything that the answers depend on.
        total: number of lines, for the progress bar.
    """

    def __init__(self, out: Path, made_from: Sequence[str], total: int) -> None:
        self._out, self._partial = out, PartialOutput.open(out, made_from)
        self._known: dict[tuple[str, str], list[Answer]] = {}
        if self._partial.rows:
            for line in lines_of(self._partial.path.read_text(encoding="utf-8")):
                row = json.loads(line)
                self._known[row["column"], row["kind"]] = [_answer(answer) for answer in row["answers"]]
        self._bar = progress(total=total, description="suite", unit="set", initial=self._partial.rows)
        self._file: TextIO = self._partial.path.open("a", encoding="utf-8")

    def of(self, column: str, kind: str, sample: Callable[[], list[Answer]]) -> list[Answer]:
        """The answers of a column to a kind of prompts, sampled now if they are not in the file."""
        if (column, kind) not in self._known:
            answers = sample()
            rows = [dataclasses.asdict(answer) for answer in answers]
            append_lines(self._file, [{"column": column, "kind": kind, "answers": rows}])
            self._known[column, kind] = answers
            self._bar.update()
        return self._known[column, kind]

    def __enter__(self) -> "Answers":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._bar.close()
        self._file.close()
        if kind is None:
            self._partial.publish(self._out)


def _answer(row: dict[str, object]) -> Answer:
    return Answer(**{**row, "ids": tuple(row["ids"])})  # type: ignore[arg-type]
