"""The command line that every package shares: `CONFIG.yaml [a.b=value …] [options]`, and how a command ends.

Every script ends through `run_main`: an error that the user can act on is printed in a few lines, with exit code 2 and
without a traceback. Any other exception is a defect of the workbench and keeps its traceback.
"""

import argparse
import codecs
import errno
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NoReturn

from workbench.run.config import ConfigT, describe, load_config
from workbench.run.errors import Problems, Terminated, WorkbenchError
from workbench.run.out_of_memory import is_out_of_memory, out_of_memory


@dataclass(frozen=True)
class CommandLine(Generic[ConfigT]):
    """A parsed command."""

    config: ConfigT
    origins: dict[str, str]
    """Where each value comes from: `default`, the file, or `command line`; by dotted key."""
    config_path: Path | None
    """None: the defaults."""
    dry_run: bool
    resume: bool


Check = Callable[[ConfigT, Problems, bool], Sequence[str]]
"""(configuration, problems, resume) → lines about the inputs; checks everything that a command reads and writes."""


def add_config_arguments(parser: argparse.ArgumentParser, *, resume: bool = True) -> None:
    """Add `CONFIG.yaml [a.b=value …] [--dry-run] [--json]` and, if `resume`, `--resume` to a parser."""
    parser.add_argument("config", metavar="CONFIG.yaml", help="YAML file; configs/ holds complete ones")
    parser.add_argument("overrides", nargs="*", metavar="a.b=value", help="values that replace the file's")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved configuration as YAML and stop")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs; in a phase, only with --dry-run")
    if resume:
        parser.add_argument("--resume", action="store_true", help="continue from the last complete checkpoint")


def parse_words(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """Parse a command line on which options may stand between overrides."""
    # argparse gives `a.b=value` after an option back as unknown; `parse_intermixed_args` cannot do subparsers.
    arguments, rest = parser.parse_known_args(list(argv))
    unknown = [word for word in rest if word.startswith("-")]
    if unknown or (rest and "overrides" not in arguments):
        parser.error(f"unrecognized arguments: {' '.join(unknown or rest)}")
    if rest:
        arguments.overrides = [*arguments.overrides, *rest]
    return arguments


def parse_command_line(
    config_class: type[ConfigT],
    argv: Sequence[str],
    *,
    prog: str,
    description: str,
    check: Check[ConfigT] | None = None,
) -> CommandLine[ConfigT]:
    """Read the command line of a command without verbs; see `read_command`."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    add_config_arguments(parser)
    arguments = parse_words(parser, argv)
    if arguments.json and not arguments.dry_run:
        parser.error("--json prints the configuration: use it with --dry-run")
    return read_command(config_class, arguments, check)


def read_command(
    config_class: type[ConfigT], arguments: argparse.Namespace, check: Check[ConfigT] | None = None
) -> CommandLine[ConfigT]:
    """Load the configuration that parsed arguments name, and check what the command needs.

    With --dry-run, print the resolved values as YAML that can be fed back, followed by comments that say what was
    found and what is wrong; with --json, print one JSON object instead.

    Raises:
        WorkbenchError: unreadable file, unknown key (with the nearest one), wrong type; or a problem found by `check`.
    """
    path = Path(arguments.config) if arguments.config else None
    resume = bool(getattr(arguments, "resume", False))
    config, origins = load_config(config_class, path, arguments.overrides)
    problems = Problems()
    found = list(check(config, problems, resume)) if check is not None else []
    if arguments.dry_run and arguments.json:
        wrong = [str(error) for error in problems.errors]
        values = config.model_dump(mode="json")
        print(json.dumps({"config": values, "origins": origins, "found": found, "problems": wrong}, ensure_ascii=False))
    elif arguments.dry_run:
        comments = [*found, *(f"problem: {error}" for error in problems.errors)]
        print("\n".join([describe(config, origins), *map(comment, comments)]))
    else:
        problems.raise_if_any()
        print("".join(f"{line}\n" for line in found), end="")
    return CommandLine(config, origins, path, arguments.dry_run, resume)


def comment(text: str) -> str:
    """A text as comments in YAML."""
    return "\n".join(f"# {line}" for line in text.splitlines())


def run_main(main: Callable[[list[str]], int | None], argv: list[str] | None = None) -> NoReturn:
    """Run a script's `main`; errors that the user can fix end with exit code 2."""
    _show_any_character()
    try:
        words = sys.argv[1:] if argv is None else argv
        _refuse_undecoded(words)
        code = main(words)
    except WorkbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except UnicodeEncodeError as error:
        if sys.getfilesystemencoding() == "utf-8":
            raise
        print(f"error: {_locale_error(repr(error.object[:80]))}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt as error:
        terminated = isinstance(error, Terminated)
        said = "terminated" if terminated else "interrupted"
        remedy = str(error) or "start the same command again to continue; a training run needs --resume"
        print(f"{said}: {remedy}", file=sys.stderr)
        code = 128 + (signal.SIGTERM if terminated else signal.SIGINT)
    except OSError as error:
        explained = _disk_error(error)
        if explained is None:
            raise
        print(f"error: {explained}", file=sys.stderr)
        code = 2
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        print(f"error: {out_of_memory(error)}", file=sys.stderr)
        code = 2
    raise SystemExit(code or 0)


def _disk_error(error: OSError) -> WorkbenchError | None:
    """What the user can do if the disk is full, or does not let this account read or write a file; None: a defect."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return WorkbenchError(
            error.filename or "disk",
            "no space left on the device",
            expected="space for what this command writes",
            remedy="free some space, then start the same command again; "
            "a training run continues from its last complete checkpoint with --resume",
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM) and error.filename is not None:
        return WorkbenchError(
            error.filename,
            f"cannot be read or written: {error.strerror}",
            expected="a path that this account may read, and write to if it is an output",
            remedy="give another path, or change the permissions of this one",
        )
    return None


def _show_any_character() -> None:
    """Escape characters that the terminal's encoding lacks, instead of failing on them."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and codecs.lookup(stream.encoding).name != "utf-8":
            stream.reconfigure(errors="backslashreplace")


def _refuse_undecoded(words: Sequence[str]) -> None:
    """Refuse command-line arguments whose bytes are not text: YAML and JSON cannot hold them."""
    for word in words:
        try:
            word.encode("utf-8")
        except UnicodeEncodeError:
            raise _locale_error(str(os.fsencode(word))[1:]) from None


def _locale_error(shown: str) -> WorkbenchError:
    encoding = sys.getfilesystemencoding()
    return WorkbenchError(
        f"command line: {shown}",
        f"contains characters that Python cannot read or write in {encoding}, the encoding of this shell",
        expected="UTF-8",
        remedy="export LC_ALL=C.UTF-8 (and unset PYTHONUTF8)"
        if encoding != "utf-8"
        else "rename the file or folder so that its name is UTF-8, for example with convmv",
    )
