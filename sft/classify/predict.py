"""Labels for a file of any size: `python -m sft predict RUN FILE`.

Rows are read, classified and written in order, one window at a time. A killed command is continued by the same command
after its last complete row; an output has its name only once it is complete.
"""

import csv
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sft.classify.classifiers import Classifier
from sft.classify.evaluate import open_classifier
from sft.classify.inputs import text_column
from workbench.data.files.rows import existing
from workbench.data.labelled import stream_texts
from workbench.data.rules import RowRules
from workbench.evaluate.classification import predictions
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.lineage import data_fingerprint
from workbench.run.out_of_memory import memory_hint
from workbench.run.partial import PartialOutput, append_lines
from workbench.run.progress import progress

WINDOW = 1024
"""Rows that are read, classified and written together."""
Line = dict[str, Any]


@dataclass(frozen=True)
class Predicted:
    """The result of classifying a file."""

    rows: int
    """Rows of the output, those of an earlier attempt included."""
    resumed: int
    """Rows among them that an interrupted attempt had written."""
    left_out: int
    """Rows without a label in this attempt: they hold no text."""
    cut: int
    """Texts in this attempt whose end was cut off at `data.max_length`."""

    def line(self, out: Path) -> str:
        """What the command prints."""
        resumed = f", {self.resumed:,} of them by an earlier attempt" if self.resumed else ""
        return (
            f"{out}: {self.rows:,} rows{resumed}; {self.left_out:,} without a text; "
            f"{self.cut:,} texts cut at data.max_length"
        )


@memory_hint("while classifying", "a smaller --batch-size")
def predict_file(  # one parameter per option of the command
    folder: RunFolder,
    file: Path,
    out: Path,
    *,
    column: str | None = None,
    batch_size: int = 64,
    base: str | None = None,
    rows: int,
    window: int = WINDOW,
    quiet: bool = False,
) -> Predicted:
    """Classify every text of a file.

    Args:
        folder: a finished classification run.
        file: JSONL, CSV, TSV, Parquet, or a folder of shards.
        out: JSON lines: `id`, `text`, `label` (`labels` for a multi-label run), `confidence` and `probabilities`; a row
            without a text has `left_out` and `place` instead. CSV, TSV and Parquet have a column `p_LABEL` per label.
        column: with the text; None: as in training.
        batch_size: rows per forward pass, at most.
        base: where the base is now, if not where the run says.
        rows: number of rows of the file.
        window: rows that are classified and written together.
        quiet: show no progress bar.

    Raises:
        WorkbenchError: the run or file is bad, or `out` exists.
    """
    if out.exists():
        raise WorkbenchError(out, "exists already", remedy="--out ANOTHER, or delete it")
    column, record = column or text_column(folder), folder.record()
    labels, multi_label = tuple(record["labels"]), bool(record["multi_label"])
    parts = [folder.adapter, folder.config_path, existing(file), *([folder.head_path] if folder.has_head else [])]
    partial = PartialOutput.open(out, [column, *(data_fingerprint(part)["sha256"] for part in parts)])
    model = open_classifier(folder, base=base, batch_size=batch_size)
    rules = RowRules(mask=RowRules.of_run(folder.config_path).mask)  # as the texts it was trained on
    texts = itertools.islice(stream_texts(file, column, rules), partial.rows, None)
    left_out = 0
    with (
        partial.path.open("a", encoding="utf-8") as output,
        progress(total=rows, initial=partial.rows, description="predict", unit="row", quiet=quiet) as bar,
    ):
        while read := list(itertools.islice(texts, window)):
            lines = predicted_lines(model, read, labels, multi_label=multi_label)
            append_lines(output, lines)
            rules.masked.clear()
            left_out += sum("left_out" in line for line in lines)
            bar.update(len(lines))
    if out.suffix == ".jsonl":
        partial.publish(out)
    else:
        _convert(partial.path, out, labels)
        partial.discard()
    return Predicted(rows, partial.rows, left_out, model.cut)


def predicted_lines(
    model: Classifier, read: Sequence[tuple[str, str] | WorkbenchError], labels: Sequence[str], *, multi_label: bool
) -> list[Line]:
    """The output line of each row."""
    table = model.probabilities([row[1] for row in read if not isinstance(row, WorkbenchError)])
    found = iter(zip(table, predictions(table, multi_label=multi_label), strict=True))
    lines: list[Line] = []
    for row in read:
        if isinstance(row, WorkbenchError):
            lines.append({"left_out": row.problem, "place": row.place})
            continue
        probabilities, flags = next(found)
        chosen = [label for label, flag in zip(labels, flags, strict=True) if flag]
        shares = [float(share) for share in probabilities]
        lines.append(
            {
                "id": row[0],
                "text": row[1],
                **({"labels": chosen} if multi_label else {"label": chosen[0]}),
                "confidence": min(max(p, 1 - p) for p in shares) if multi_label else max(shares),
                "probabilities": dict(zip(labels, shares, strict=True)),
            }
        )
    return lines


def _convert(lines: Path, out: Path, labels: Sequence[str]) -> None:
    """Write complete JSON lines as a table in the format of `out`, a window of rows at a time."""
    hidden = out.with_name(f".{out.name}.writing")
    columns = ["id", "text", "label", "confidence", *(f"p_{label}" for label in labels), "left_out"]
    windows = _tables(lines, labels)
    if out.suffix == ".parquet":
        kinds = {"confidence": pa.float64(), **{f"p_{label}": pa.float64() for label in labels}}
        schema = pa.schema([(name, kinds.get(name, pa.string())) for name in columns])
        with pq.ParquetWriter(hidden, schema) as writer:
            for rows in windows:
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    else:
        with hidden.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, columns, delimiter="\t" if out.suffix == ".tsv" else ",")
            table.writeheader()
            for rows in windows:
                table.writerows(rows)
    hidden.replace(out)


def _tables(lines: Path, labels: Sequence[str]) -> Iterator[list[Line]]:
    """Flat rows; the labels of a multi-label row are a JSON list in the column `label`."""
    with lines.open(encoding="utf-8") as file:
        while window := list(itertools.islice(file, WINDOW)):
            rows = []
            for line in map(json.loads, window):
                probabilities = line.pop("probabilities", {})
                if "labels" in line:
                    line["label"] = json.dumps(line.pop("labels"), ensure_ascii=False)
                line.pop("place", None)
                rows.append(line | {f"p_{label}": probabilities.get(label) for label in labels})
            yield rows
