"""The rules for reading rows: ignored columns, bad rows, and the list of rows that were left out."""

import argparse
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from workbench.privacy.audit import add_to_audit
from workbench.privacy.keys import key_id, read_or_make_key
from workbench.run.checkpoints import write_text_atomically
from workbench.run.errors import WorkbenchError
from workbench.run.sections import PersonalKind as Kind

BadRows = Literal["auto", "error", "skip"]
RARE = 1 / 100
"""`auto` leaves out bad rows up to this share of a file; more is an error."""
LEFT_OUT = "bad_rows.jsonl"
"""The list's file name in a run folder."""


@dataclass(frozen=True)
class RowRules:
    """How a phase reads rows (`data.ignore`, `data.bad_rows`), and the rows it left out."""

    ignore: tuple[str, ...] = ()
    """Columns to read as if the file did not have them."""
    bad_rows: BadRows = "auto"
    """`error`: the first bad row stops the reading; `skip`: bad rows are left out; `auto`: left out if rare."""
    rename: tuple[tuple[str, str], ...] = ()
    """Columns to read under another name: (name in the file, name of a form)."""
    mask: tuple[Kind, ...] = ()
    """Kinds of personal data to mask (`data.mask_personal`)."""
    left_out: list[dict[str, str]] = field(default_factory=list, compare=False)
    """`place` and `problem` per row that was left out; readers add to it."""
    masked: list[dict[str, Any]] = field(default_factory=list, compare=False)
    """One line of the audit file per masked value; readers add to it."""

    @classmethod
    def of(cls, section: Mapping[str, Any]) -> "RowRules":
        """The rules of a run, from the `data` section of its configuration, which may lack them."""
        return cls(
            tuple(section.get("ignore") or ()),
            section.get("bad_rows", "auto"),
            mask=tuple(section.get("mask_personal") or ()),
        )

    @classmethod
    def of_run(cls, config_path: Path) -> "RowRules":
        """The rules of a run, from its `config.yaml`."""
        return cls.of(yaml.safe_load(config_path.read_text(encoding="utf-8"))["data"])

    def drops(self, bad: int, rows: int) -> bool:
        """Whether this number of bad rows is left out, and not an error."""
        return self.bad_rows == "skip" or (self.bad_rows == "auto" and bad <= RARE * rows)

    def write_left_out(self, folder: Path) -> None:
        """Write the list of rows that were left out; if there are none, remove it."""
        path = folder / LEFT_OUT
        if self.left_out:
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in self.left_out)
            write_text_atomically(path, "".join(lines))
        else:
            path.unlink(missing_ok=True)

    def write_masked(self, path: Path) -> None:
        """Add the masked values to an audit file; do nothing if nothing is to be masked.

        Raises:
            WorkbenchError: the file that is there was made with another key.
        """
        if self.mask:
            add_to_audit(path, key_id(read_or_make_key()), self.masked)


def kind_of(error: WorkbenchError) -> str:
    """A problem without the value that was found, to count rows with the same problem together."""
    return re.split(r"[:;]| is (?=['\"\d\[{])", error.problem, maxsplit=1)[0]


def add_row_options(parser: argparse.ArgumentParser) -> None:
    """Add `--ignore` and `--bad-rows` to a command that has no configuration file."""
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="COLUMN",
        help="column of the file to skip (repeatable)",
    )
    parser.add_argument(
        "--bad-rows",
        choices=get_args(BadRows),
        default="auto",
        help="leave bad rows out, or stop; auto: leave out up to 1%% (default: %(default)s)",
    )


def row_options(arguments: argparse.Namespace) -> RowRules:
    """The rules from the options of `add_row_options`."""
    return RowRules(tuple(arguments.ignore), arguments.bad_rows)
