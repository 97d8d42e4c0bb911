"""How rows of a file are taken: columns to ignore, what a bad row does, and the list of those that were left out."""

import argparse
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from workbench.run.checkpoints import write_text_atomically
from workbench.run.errors import WorkbenchError

BadRows = Literal["auto", "error", "skip"]
RARE = 1 / 100
"""`auto`: up to this share of a file's rows may be bad and left out; more is an error."""
LEFT_OUT = "bad_rows.jsonl"
"""Name of the list in a run folder."""


@dataclass(frozen=True)
class RowRules:
    """How the rows of a phase's files are read (`data.ignore`, `data.bad_rows`), and which were left out."""

    ignore: tuple[str, ...] = ()
    """Columns that are read as if the file did not have them."""
    bad_rows: BadRows = "auto"
    """`error`: the first bad row stops the reading; `skip`: bad rows are left out; `auto`: left out while rare."""
    left_out: list[dict[str, str]] = field(default_factory=list, compare=False)
    """`place` and `problem` of each row that was left out; the readers add to it."""

    @classmethod
    def of(cls, section: Mapping[str, Any]) -> "RowRules":
        """From the `data` section of a run's configuration, also of a run made before there were rules."""
        return cls(tuple(section.get("ignore") or ()), section.get("bad_rows", "auto"))

    @classmethod
    def of_run(cls, config_path: Path) -> "RowRules":
        """As a run read its files, from its `config.yaml`."""
        return cls.of(yaml.safe_load(config_path.read_text(encoding="utf-8"))["data"])

    def drops(self, bad: int, rows: int) -> bool:
        """Whether so many bad rows of a file are left out rather than an error."""
        return self.bad_rows == "skip" or (self.bad_rows == "auto" and bad <= RARE * rows)

    def write_left_out(self, folder: Path) -> None:
        """List the rows that were left out in a run folder; without any, no file."""
        path = folder / LEFT_OUT
        if self.left_out:
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in self.left_out)
            write_text_atomically(path, "".join(lines))
        else:
            path.unlink(missing_ok=True)


def kind_of(error: WorkbenchError) -> str:
    """A bad row's problem without the value that was found, so that like rows are counted together."""
    return re.split(r"[:;]| is (?=['\"\d\[{])", error.problem, maxsplit=1)[0]


def add_row_options(parser: argparse.ArgumentParser) -> None:
    """`--ignore` and `--bad-rows` for a verb that reads a file without a configuration."""
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="COLUMN",
        help="column of the file to leave unread (repeatable)",
    )
    parser.add_argument(
        "--bad-rows",
        choices=get_args(BadRows),
        default="auto",
        help="leave bad rows out, or stop; auto: leave out up to 1%% (default: %(default)s)",
    )


def row_options(arguments: argparse.Namespace) -> RowRules:
    """The rules that `add_row_options` read."""
    return RowRules(tuple(arguments.ignore), arguments.bad_rows)
