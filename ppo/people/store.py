"""Talks to the label store with the commands of annotate, as a user would (docs/decisions/0001)."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.data.readers import write_records
from workbench.data.records import Item
from workbench.run.errors import WorkbenchError
from workbench.run.partial import lines_of

SECONDS = 300
"""A command that takes longer is given up."""


@dataclass(frozen=True)
class Judgement:
    """A person's answer about one pair."""

    item: str
    strength: int
    """−3 (the item's first answer is much better) … 3; 0 for a tie or both bad."""


@dataclass(frozen=True)
class LabelStore:
    """The store of a configuration of `python -m annotate`.

    Args:
        config: the YAML file.
        run: name of the training run, for the lead.
        folder: where files for the command are written.
    """

    config: str
    run: str
    folder: Path

    def exchange(self, items: Sequence[Item], *, notice: str | None = None) -> list[Judgement]:
        """Load the items that the store does not have yet; returns the judgements of all of them, oldest first.

        Args:
            notice: for the lead; empty: takes back an earlier one. None: leaves it.

        Raises:
            WorkbenchError: the command failed, such as for a store that cannot be reached.
        """
        file, out = self.folder / "items.jsonl", self.folder / "judgements.jsonl"
        write_records(file, items)
        words = ["spot-check", self.config, str(file), "--run", self.run, "--out", str(out)]
        annotate([*words, *(["--notice", notice] if notice is not None else [])])
        rows = [json.loads(line) for line in lines_of(out.read_text(encoding="utf-8"))]
        return [Judgement(str(row["item"]), int(row["strength"])) for row in rows]


def check_command(config: str) -> None:
    """Check that annotate takes the configuration.

    Raises:
        WorkbenchError: what is wrong with it.
    """
    annotate(["spot-check", config, "items.jsonl", "--run", "run", "--out", "out.jsonl", "--dry-run"])


def annotate(words: Sequence[str]) -> None:
    """Run `python -m annotate WORDS …`.

    Raises:
        WorkbenchError: it failed or took too long.
    """
    command = [sys.executable, "-m", "annotate", *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise WorkbenchError(f"annotate {words[0]}", f"gave no answer in {SECONDS} seconds") from None
    if done.returncode:
        said = done.stderr.strip().removeprefix("error: ") or f"ended with exit code {done.returncode}"
        raise WorkbenchError(f"annotate {words[0]}", said)
