"""Checks of everything that classification reads and writes, before any model library is imported."""

from collections import Counter
from pathlib import Path

from sft.classify.config import ClassifyConfig
from sft.classify.split import load_split
from workbench.data.files.rows import existing
from workbench.data.inputs import (
    check_base,
    check_micro_batch,
    check_run_folder,
    data_files,
    left_out_line,
    parents,
    usable_base,
)
from workbench.data.labelled import stream_texts
from workbench.data.rules import RowRules
from workbench.run.errors import Problems, WorkbenchError
from workbench.run.folder import RunFolder

PHASE = "classify"


def check_inputs(config: ClassifyConfig, problems: Problems, resume: bool = False) -> list[str]:
    """Collect the problems of values, base, files and folder; returns one line about each input."""
    section = config.data
    problems.attempt(check_micro_batch, config.train)
    base = problems.attempt(usable_base, config.model.base, config.model.revision)
    found = check_base(problems, base, {"data.max_length": section.max_length}, quantise=config.model.quantise)
    problems.attempt(check_run_folder, config.run, PHASE, config, resume=resume)
    files = data_files({"train": section.train, "heldout": section.heldout}, problems)
    if files is None:
        return found
    rules = RowRules(section.ignore, section.bad_rows, mask=section.mask_personal)
    split = problems.attempt(
        load_split, files["train"], files.get("heldout"), section, seed=config.run.seed, rules=rules
    )
    if split is None:
        return found
    if split.multi_label and config.method == "verbalizer":
        problems.add(
            "method",
            "`verbalizer` says one label per text, and these texts have lists of labels",
            remedy="method=head",
        )
    words = {word.split("=", 1)[0] for word in config.verbalizer.words} - set(split.labels)
    if words:
        problems.add(
            "verbalizer.words", f"{sorted(words)[0]!r} is not a label", expected=f"some of {', '.join(split.labels)}"
        )
    spoken = Counter(config.verbalizer.word_of(label) for label in split.labels)
    if max(spoken.values()) > 1:
        problems.add("verbalizer.words", f"two labels have the word {spoken.most_common(1)[0][0]!r}")
    counts = Counter(label for record in split.train for label in record.labels)
    shares = ", ".join(f"{label} {counts[label]:,}" for label in split.labels)
    kept_out = files.get("heldout", files["train"])
    return [
        *found,
        f"data.train: {files['train']}: {len(split.train):,} texts to train on ({shares})",
        f"data.heldout: {kept_out}: {len(split.heldout):,} texts held out",
        split.line(),
        *left_out_line(rules),
    ]


def check_predict(run: str, file: str, out: Path, base: str | None, column: str | None) -> tuple[RunFolder, int]:
    """Check run, file and output of `predict`; returns the run and the number of rows.

    Raises:
        WorkbenchError: every problem at once.
    """
    problems = Problems()
    folders = parents(problems, [run], PHASE, base)
    if out.exists():
        problems.add(out, "exists already", remedy="--out ANOTHER, or delete it")
    if out.suffix not in FORMATS:
        problems.add(
            out, f"cannot be written as {out.suffix or 'a file without a suffix'}", expected=", ".join(FORMATS)
        )
    problems.attempt(existing, Path(file))
    rows = None
    if folders and not problems.errors:
        rows = problems.attempt(count_texts, file, column or text_column(folders[0]))
    problems.raise_if_any()
    return folders[0], rows or 0


FORMATS = (".jsonl", ".csv", ".tsv", ".parquet")
"""Kinds of output of `predict`."""


def text_column(folder: RunFolder) -> str:
    """The column that held the texts in training."""
    return str(folder.record().get("text_column", "text"))


def count_texts(file: str | Path, column: str) -> int:
    """The number of rows of a file.

    Raises:
        WorkbenchError: the file is empty, or no row has a text.
    """
    total = good = 0
    first: WorkbenchError | None = None
    for outcome in stream_texts(file, column):
        total += 1
        if isinstance(outcome, WorkbenchError):
            first = first or outcome
        else:
            good += 1
    if not total:
        raise WorkbenchError(file, "it is empty", expected="at least one text")
    if first is not None and not good:
        raise first
    return total
