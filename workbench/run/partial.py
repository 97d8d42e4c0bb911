"""Output files of JSON lines that a killed command continues, and that have their name only once they are complete.

Lines go into a hidden file next to the output, which one process at a time writes; a mark beside it holds a fingerprint
of what they are made from.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from workbench.run.checkpoints import make_folder, write_text_atomically
from workbench.run.lock import hold_unfinished, release


@dataclass(frozen=True)
class PartialOutput:
    """The lines that are written already."""

    path: Path
    mark_path: Path
    rows: int

    @classmethod
    def open(cls, out: Path, made_from: Sequence[str]) -> "PartialOutput":
        """Continue an interrupted output that was made from the same things, or start a new one.

        Args:
            out: the name of the complete output.
            made_from: fingerprints of everything that the lines depend on.

        Raises:
            WorkbenchError: another process is writing this output, or nothing can be written there.
        """
        make_folder(out.parent)
        path, mark_path = out.with_name(f".{out.name}.partial"), out.with_name(f".{out.name}.partial.json")
        hold_unfinished(path, out)
        mark = hashlib.sha256(json.dumps(list(made_from)).encode()).hexdigest()
        if mark_path.is_file() and mark_path.read_text(encoding="utf-8").strip() == mark:
            return cls(path, mark_path, _whole_lines(path))
        os.truncate(path, 0)
        write_text_atomically(mark_path, mark + "\n")
        return cls(path, mark_path, 0)

    def publish(self, out: Path) -> None:
        """Give the lines the output's name."""
        self.path.replace(out)
        self._end()

    def discard(self) -> None:
        """Delete the lines, once the output has been made from them in another format."""
        self.path.unlink()
        self._end()

    def _end(self) -> None:
        self.mark_path.unlink(missing_ok=True)
        release(self.path)


def append_lines(output: TextIO, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines and flush them to the disk."""
    output.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    output.flush()
    os.fsync(output.fileno())


def lines_of(text: str) -> list[str]:
    """The lines of a file of JSON lines; `str.splitlines` also ends them inside a text (U+0085, U+2028, U+2029)."""
    return text.removesuffix("\n").split("\n") if text else []


def _whole_lines(path: Path) -> int:
    """Number of complete lines; an incomplete last line is cut off."""
    count = end = 0
    with path.open("r+b") as file:
        for line in file:
            if line.endswith(b"\n"):
                count, end = count + 1, end + len(line)
        file.truncate(end)
    return count
