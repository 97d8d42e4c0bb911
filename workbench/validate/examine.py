"""The examination of files: reads each as its phase does, runs the checks, and collects findings and numbers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from workbench.data.batching import LossOn
from workbench.data.embedded import resolve_data
from workbench.data.labelled import Columns
from workbench.data.rules import RowRules
from workbench.validate.entries import Entry, entries_of
from workbench.validate.findings import Finding
from workbench.validate.labels import Share, check_classes, check_judgements
from workbench.validate.languages import check_languages
from workbench.validate.reading import FileRead, Purpose, guess_purpose, read_file
from workbench.validate.repeats import check_repeats
from workbench.validate.texts import check_texts
from workbench.validate.tokens import TokenReport, check_tokens, open_tokenizer


@dataclass(frozen=True)
class Question:
    """What to examine, and for what."""

    files: tuple[str, ...]
    """The first is trained on, the others are other splits."""
    purpose: Purpose | None = None
    """None: guessed from the first file."""
    base: str | None = None
    """Whose tokenizer counts; None: no tokens are counted, except for the embedded default's files."""
    max_length: int | None = None
    """Most tokens of a row; None: the base's positions."""
    loss_on: LossOn = "last"
    columns: Columns = field(default_factory=Columns)
    rules: RowRules = field(default_factory=RowRules)
    quiet: bool = False


@dataclass
class Examined:
    """One file and what was found in it."""

    read: FileRead
    entries: list[Entry]
    languages: dict[str, int] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    shares: list[Share] = field(default_factory=list)
    tokens: TokenReport | None = None

    @property
    def characters(self) -> list[int]:
        """Per record, the characters of its longest answer, or of its prompt if it has none."""
        return [max(map(len, entry.answers), default=len(entry.prompt)) for entry in self.entries]


@dataclass(frozen=True)
class Report:
    """The findings about all files."""

    purpose: Purpose
    files: tuple[Examined, ...]
    findings: tuple[Finding, ...]
    """The worst first."""


def examine(question: Question) -> Report:
    """Examine files.

    Raises:
        WorkbenchError: a base or a name of the embedded default is wrong. A file that cannot be read is a finding.
    """
    paths = [str(resolve_data(name)) for name in question.files]
    base = question.base or ("tiny" if all(name.startswith("tiny:") for name in question.files) else None)
    tokenizer = open_tokenizer(base) if base else None
    purpose = question.purpose or guess_purpose(paths[0], question.columns, question.rules.ignore)
    files, findings = [], []
    for path in paths:
        read = read_file(path, purpose, question.rules, question.columns, quiet=question.quiet)
        one = Examined(read, entries_of(path, read.records))
        findings += [*read.findings, *_check(one, question)]
        if tokenizer is not None and one.entries:
            limit = min(question.max_length or tokenizer.model_max_length, tokenizer.model_max_length)
            found, one.tokens = check_tokens(
                path, one.entries, tokenizer, str(base), limit=limit, loss_on=question.loss_on
            )
            findings += found
        files.append(one)
    findings += check_repeats([(one.read.path, one.entries) for one in files])
    order = {"error": 0, "warning": 1, "note": 2}
    return Report(purpose, tuple(files), tuple(sorted(findings, key=lambda finding: order[finding.level])))


def _check(one: Examined, question: Question) -> list[Finding]:
    path, entries = one.read.path, one.entries
    found = check_texts(path, entries)
    if one.read.purpose == "classify":
        own, one.shares = check_classes(path, entries, question.columns)
        one.labels = dict(Counter(label for entry in entries for label in entry.labels).most_common())
    else:
        own, one.shares = check_judgements(path, entries, one.read.first_answer_better, one.read.judged_twice)
    languages, one.languages = check_languages(path, entries, quiet=question.quiet)
    return [*found, *own, *languages]


def name_of(path: str, files: Sequence[Examined]) -> str:
    """A file's name without its folder, if no other file has it."""
    names = [Path(one.read.path).name for one in files]
    return Path(path).name if names.count(Path(path).name) == 1 else path
