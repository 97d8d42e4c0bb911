"""Checks the files that a command will write, before it writes the first. Knows no format."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from workbench.run.errors import Problems


def check_outputs(outputs: Mapping[str, Path], inputs: Iterable[Path], *, remedy: str) -> None:
    """Check that no output is a folder, a file that is read, or the file of another output.

    Args:
        outputs: what is written, such as `--out` or the name of the file that it is made from → its file.
        inputs: files that are read.
        remedy: how to name other files.

    Raises:
        WorkbenchError: every problem at once.
    """
    problems = Problems()
    read = {path.resolve() for path in inputs}
    written: dict[Path, str] = {}
    for name, path in outputs.items():
        place = path.resolve()
        problem = None
        if path.is_dir():
            problem = "is a folder"
        elif place in read:
            problem = "is one of the inputs, and would be overwritten"
        elif place in written:
            problem = f"would be written twice: for {written[place]} and for {name}"
        if problem:
            problems.add(path, problem, expected="a file of its own for each output", remedy=remedy)
        written.setdefault(place, name)
    problems.raise_if_any()
