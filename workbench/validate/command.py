"""`python -m workbench validate`: its options, and what it prints and writes."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from workbench.data.batching import LossOn
from workbench.data.labelled import Columns
from workbench.data.rules import add_row_options, row_options
from workbench.run.checkpoints import write_text_atomically
from workbench.run.errors import WorkbenchError
from workbench.run.options import positive_int
from workbench.run.outputs import check_outputs
from workbench.validate.reading import Purpose

if TYPE_CHECKING:
    from workbench.validate.examine import Report


def add_validate(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Add the verb and its options."""
    validate = verbs.add_parser(
        "validate", help="check data files: how a phase would use them, and what is wrong with them"
    )
    validate.add_argument("files", nargs="+", metavar="FILE", help="training file; further files are other splits")
    validate.add_argument(
        "--for", dest="purpose", choices=get_args(Purpose), help="the phase (default: by the columns)"
    )
    validate.add_argument("--base", help="base whose tokenizer counts (default: `tiny` for tiny:NAME, else none)")
    validate.add_argument(
        "--max-length", type=positive_int, metavar="TOKENS", help="limit of a row (default: the positions of the base)"
    )
    validate.add_argument("--loss-on", choices=get_args(LossOn), default="last", help="data.loss_on of sft")
    validate.add_argument("--text", default="text", metavar="COLUMN", help="classify: data.text (default: %(default)s)")
    validate.add_argument("--labels", nargs="+", default=["label"], metavar="COLUMN", help="classify: data.labels")
    validate.add_argument("--out", default="validate.html", metavar="PAGE", help="page to write (default: %(default)s)")
    validate.add_argument("--fix", metavar="FOLDER", help="write cleaned copies and a list of the changes there")
    add_row_options(validate)
    return validate


def validate(arguments: argparse.Namespace) -> int:
    """Examine files, print the report, write the page; returns 0 (clean) or 1 (findings).

    Raises:
        WorkbenchError: the page would replace an input; or a file that the phase refuses, after everything else is
            printed and written.
    """
    from workbench.validate.examine import Question, examine
    from workbench.validate.findings import exit_code
    from workbench.validate.fix import write_fixed
    from workbench.validate.page import page
    from workbench.validate.show import lines

    check_outputs({"--out": Path(arguments.out)}, map(Path, arguments.files), remedy="--out ANOTHER.html")
    report = examine(
        Question(
            tuple(arguments.files),
            arguments.purpose,
            arguments.base,
            arguments.max_length,
            arguments.loss_on,
            Columns(arguments.text, tuple(arguments.labels)),
            row_options(arguments),
        )
    )
    print("\n".join(lines(report)))
    write_text_atomically(Path(arguments.out), page(report))
    print(f"page: {arguments.out}")
    if arguments.fix:
        print("\n".join(write_fixed(report, Path(arguments.fix))))
    code = exit_code(report.findings)
    if code == 2:
        raise _refusal(report)
    return code


def _refusal(report: "Report") -> WorkbenchError:
    """The error of the first refused file."""
    refused = [one.read.refused for one in report.files if one.read.refused is not None]
    if refused:
        return refused[0]
    finding = report.findings[0]
    return WorkbenchError(finding.file, finding.message, remedy=finding.remedy)
