"""Runs a list of commands, each as a process of its own. A finished command is not repeated.

If a list was killed, the same call starts again with the first unfinished command, which resumes from its last
checkpoint.
"""

import hashlib
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from workbench.run import lock
from workbench.run.checkpoints import make_folder, write_text_atomically
from workbench.run.config import dotted, read_values
from workbench.run.errors import Problems, WorkbenchError
from workbench.run.lineage import data_fingerprint
from workbench.run.process import start
from workbench.run.progress import duration, progress
from workbench.run.shipped import here_or_shipped

_VALUE = re.compile(r"[a-z_]+(\.\w+)*=")
"""A word that sets a value of a configuration."""
TAIL = 25
"""Lines of a failed command that its error shows."""


@dataclass(frozen=True)
class Step:
    """One command."""

    number: int
    """Of the seed or round that it belongs to."""
    part: str
    """What it does, such as `sft` or `train NAME`; unique within its number."""
    words: tuple[str, ...]
    """After `python -m`."""
    config: str | None = None
    """The YAML file that it reads, if any."""
    resumable: bool = False
    """Whether the command takes --resume."""
    scope: str = "seed"
    """What `number` counts: `seed` or `round`."""
    further: tuple[str, ...] = ()
    """Words that may change without making it another command."""
    also: tuple[str, ...] = ()
    """Other words under which it may have been run before; none: only `words`."""
    files: tuple[str, ...] = ()
    """Files that may not change between the commands of a series; names of embedded ones are allowed."""
    shown: bool = False
    """Whether its output goes to the terminal instead of `logs/`."""

    @property
    def name(self) -> str:
        """Unique within the list."""
        return f"{self.scope} {self.number} {self.part}"

    @property
    def command(self) -> str:
        """What a user would type."""
        return shlex.join(("python", "-m", *self.words, *self.further))


@dataclass
class Ledger:
    """The finished commands with their time and memory, in `steps.json`."""

    path: Path
    done: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Step → `seconds`, `peak_rss_bytes`, `peak_gpu_bytes`, and `of`, a hash of command and configuration."""

    @classmethod
    def open(cls, folder: Path) -> "Ledger":
        """The ledger of a folder, empty if no command has ended there.

        Raises:
            WorkbenchError: the file is broken.
        """
        path = folder / "steps.json"
        if not path.is_file():
            return cls(path)
        try:
            done = {name: {**row, "of": row["of"], "seconds": row["seconds"]} for name, row in _rows(path).items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise WorkbenchError(
                path,
                f"is broken: {error!r}",
                expected="the finished commands, as this command wrote them",
                remedy=f"another output folder (….out=…), or delete {folder} to run all commands again",
            ) from None
        return cls(path, done)

    def is_done(self, step: Step) -> bool:
        """Whether a command has ended successfully.

        Raises:
            WorkbenchError: it was another command, or its configuration or one of its `files` has changed since.
        """
        if step.name not in self.done:
            return False
        other = [replace(step, words=step.also)] if step.also else []
        if self.done[step.name]["of"] not in map(identity, [step, *other]):
            files = f", or {' and '.join(step.files)} has changed since" if step.files else ""
            raise WorkbenchError(
                f"{self.path}: {step.name}",
                f"was run with other values than this configuration has{files}",
                expected="the configuration that the first commands had; commands may be added",
                remedy=f"another output folder (….out=…), or delete {self.path.parent}",
            )
        return True

    def add(self, step: Step, measured: dict[str, Any]) -> None:
        """Note a finished command."""
        self.done[step.name] = {**measured, "of": identity(step)}
        self._write()

    def drop(self, step: Step) -> None:
        """Have a finished command run again."""
        self.done.pop(step.name, None)
        self._write()

    def _write(self) -> None:
        write_text_atomically(self.path, json.dumps(self.done, indent=1) + "\n")


def _rows(path: Path) -> dict[str, Any]:
    rows: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return rows


def identity(step: Step) -> str:
    """A hash of a command, of the configuration file that it reads, and of its `files`."""
    text = here_or_shipped(Path(step.config)).read_text(encoding="utf-8") if step.config else ""
    files = [str(data_fingerprint(Path(name))["sha256"]) for name in step.files if Path(name).exists()]
    return hashlib.sha256("\x1f".join((*step.words, text, *files)).encode()).hexdigest()[:16]


def check_values(steps: Sequence[Step], problems: Problems) -> None:
    """Collect values that a command is given twice: the last one counts, and the other would be ignored silently.

    Args:
        steps: in the order of words, what a configuration sets comes before what the series of commands sets itself.
        problems: where they go.
    """
    known: set[tuple[str, str]] = set()
    for step in steps:
        given: dict[str, str] = {}
        for word in step.words:
            if not _VALUE.match(word):
                continue
            for key in dotted(read_values(None, [word])):
                if key in given and (step.part, given[key]) not in known:
                    known.add((step.part, given[key]))
                    problems.add(
                        f"{step.part}: set",
                        f"{given[key]!r} would have no effect: the command is also given {word!r}",
                        expected="values that this series of commands does not set itself",
                        remedy="leave it out of `set`",
                    )
                given[key] = word


def seconds_left(steps: Sequence[Step], ledger: Ledger) -> float | None:
    """Expected seconds of the unfinished commands: as the same part took elsewhere, else as the mean of all.

    None before the first command is finished.
    """
    by_part: dict[str, list[float]] = {}
    for step in steps:
        if step.name in ledger.done:
            by_part.setdefault(step.part, []).append(float(ledger.done[step.name]["seconds"]))
    known = [value for values in by_part.values() for value in values]
    if not known:
        return None
    return sum(
        sum(own) / len(own) if (own := by_part.get(step.part)) else sum(known) / len(known)
        for step in steps
        if step.name not in ledger.done
    )


def check_commands(steps: Sequence[Step], folder: Path) -> None:
    """Check configuration and inputs of every part that is not finished, before the first command takes its time.

    A part is checked once, as the commands of other seeds or rounds differ only in paths and seeds; one with values of
    its own (`Step.also`) is checked as well. What a command has against a path below `folder` is ignored: an earlier
    command may have to make it first.

    Raises:
        WorkbenchError: a key, value, file or run that a phase does not take; or a command was run before with other
            values. Problems of several parts come together.
    """
    ledger, problems = Ledger.open(folder), Problems()
    waiting = [step for step in steps if not ledger.is_done(step)]
    first = {(step.part, bool(step.also)): step.number for step in reversed(waiting)}
    parts: dict[str, dict[str, None]] = {}  # problem → parts that have it
    for step in waiting:
        if step.config is not None and step.number == first[step.part, bool(step.also)]:
            for problem in _objections(step, folder):
                parts.setdefault(problem, {})[step.part] = None
    for problem, having in parts.items():
        problems.add(", ".join(having), problem)
    problems.raise_if_any()


def _objections(step: Step, folder: Path) -> list[str]:
    """What a command has against its configuration and inputs, but for paths below `folder`."""
    words = [*step.words, *step.further, *(["--resume"] if step.resumable else [])]
    command = [sys.executable, "-m", *words, "--dry-run", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return [f"{step.command}: {done.stderr.strip().removeprefix('error: ')}"]
    values = [word.split("=", 1)[1] if _VALUE.match(word) else word for word in step.words]
    made = [value for value in values if Path(value).absolute().is_relative_to(folder.absolute())]
    found = json.loads(done.stdout.splitlines()[-1])["problems"]
    return [
        problem for problem in found if not any(re.search(rf"{re.escape(path)}(?![\w.-])", problem) for path in made)
    ]


def run_steps(steps: Sequence[Step], folder: Path, *, description: str = "steps") -> Ledger:
    """Run the commands that are not finished yet, with a progress bar; their output goes to `logs/`.

    Raises:
        WorkbenchError: a command failed, was run before with other values, or another process works in the folder.
    """
    make_folder(folder / "logs")
    lock.hold(folder)
    try:
        ledger = Ledger.open(folder)
        waiting = [step for step in steps if not ledger.is_done(step)]
        with progress(total=len(steps), initial=len(steps) - len(waiting), description=description, unit="step") as bar:
            for step in waiting:
                left = seconds_left(steps, ledger)
                bar.set_postfix_str(f"{step.name}; about {duration(left)} left" if left else step.name)
                ledger.add(step, _run(step, folder, bar))
                bar.update(1)
    finally:
        lock.release(folder)
    return ledger


def _run(step: Step, folder: Path, bar: Any) -> dict[str, Any]:
    """Seconds and peak memory of one command."""
    name = step.name.replace(" ", "-")
    log, peak = folder / "logs" / f"{name}.txt", folder / "logs" / f"{name}.json"
    log.touch()  # a command that is shown has an empty one
    words = [*step.words, *step.further, *(["--resume"] if step.resumable else [])]
    process = start(words, peak, None if step.shown else log)
    try:
        while process.is_alive():
            process.join(0.2)
            if not step.shown and time.time() - bar.last_print_t > bar.mininterval:
                bar.last_print_t = time.time()
                bar.refresh()
    except BaseException:
        process.terminate()
        process.join()
        raise
    if process.exitcode:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:]
        raise WorkbenchError(
            step.command,
            f"ended with exit code {process.exitcode}. The end of {log}:\n" + "\n".join(lines),
            remedy="fix the cause and start the same command again: it continues with this one",
        )
    measured: dict[str, Any] = json.loads(peak.read_text(encoding="utf-8"))
    return measured
