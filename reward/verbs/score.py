"""Scores of a file of any size: `python -m reward score RUN FILE`.

Rows are read, scored and written in order, one window at a time; within a window, answers of similar length share a
forward pass. Lines go into a hidden file next to the output and take the output's name at the end, so an output is
always complete. The same command continues an interrupted one after its last complete line.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from workbench.data.readers import count_answers, stream_answers
from workbench.data.records import Demonstration, Item, Preference
from workbench.data.rules import RowRules
from workbench.data.tokenise import encode_rows
from workbench.evaluate.policy import finite_scores
from workbench.evaluate.role_models import reward_roles
from workbench.model.open import open_runs
from workbench.model.roles import Roles
from workbench.model.score import score_rows
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.lineage import data_fingerprint
from workbench.run.out_of_memory import memory_hint
from workbench.run.partial import PartialOutput, append_lines
from workbench.run.progress import progress

WINDOW = 1024
"""Rows that are read, sorted by length and written together."""
Record = Preference | Item | Demonstration | WorkbenchError


@dataclass(frozen=True)
class Scored:
    """The result of scoring a file."""

    rows: int
    """Lines of the output, those of an earlier attempt included."""
    resumed: int
    """Lines among them that an interrupted attempt had written."""
    left_out: int
    """Rows without a score in this attempt, such as empty or identical answers."""


@memory_hint("while scoring", "a smaller --batch-tokens or --batch-size")
def score_file(  # one parameter per option of the command
    run: Path,
    file: Path,
    out: Path,
    *,
    batch_size: int = 64,
    batch_tokens: int | None = None,
    window: int = WINDOW,
    base: str | None = None,
    rules: RowRules | None = None,
    rows: int | None = None,
    quiet: bool = False,
) -> Scored:
    """Score every answer of a file of pairs, items or demonstrations.

    Args:
        run: a finished reward run; an ensemble's score is the mean over its members, as in PPO.
        file: JSONL, CSV, TSV, Parquet or a saved `datasets` folder.
        out: one JSON line per row: `id` with `score`, with `chosen`, `rejected` and `gap`, or with `scores`; for an
            ensemble also `spread`, the members' standard deviation for each answer of the row.
        batch_size: answers per forward pass, at most.
        batch_tokens: tokens per forward pass, padding included, at most; None: `pass_tokens` of the device.
        window: rows that are sorted by length and written together.
        base: where the base is now, if not where the run says.
        rules: how rows of the file are read.
        rows: number of rows of the file, if it has been counted already.
        quiet: show no progress bar.

    Raises:
        WorkbenchError: the run or a row is bad, or `out` exists.
    """
    if out.exists():
        raise WorkbenchError(out, "exists already", remedy="--out ANOTHER.jsonl, or delete it")
    folder = RunFolder.open(run, phase="reward").require_finished()
    rules = rules or RowRules()
    total = count_answers(file, rules) if rows is None else rows
    partial = PartialOutput.open(out, _made_from(folder, file))
    names = reward_roles(folder.path)
    roles = open_runs(names, base=base)
    records = itertools.islice(stream_answers(file, rules), partial.rows, None)
    resumed, left_out = partial.rows, 0
    with (
        partial.path.open("a", encoding="utf-8") as output,
        progress(total=total, initial=resumed, description="score", unit="row", quiet=quiet) as bar,
    ):
        for records_now in _windows(records, window):
            lines = scored_lines(roles, tuple(names), records_now, batch_size=batch_size, batch_tokens=batch_tokens)
            append_lines(output, lines)
            left_out += sum("left_out" in line for line in lines)
            bar.update(len(lines))
    partial.publish(out)
    return Scored(total, resumed, left_out)


def scored_lines(
    roles: Roles,
    names: Sequence[str],
    records: Sequence[Record],
    *,
    batch_size: int,
    batch_tokens: int | None = None,
) -> list[dict[str, Any]]:
    """The output line of each record: the mean score of the reward roles and, for several roles, their spread."""
    rows: list[list[int]] = []
    spans: list[tuple[int, int]] = []
    checked: list[Record] = []
    for record in records:
        answers = token_rows(roles.tokenizer, record)
        longest = max(map(len, answers), default=0)
        if longest > roles.positions:
            problem = f"an answer with its prompt has {longest} tokens, and the base has {roles.positions} positions"
            answers, record = [], WorkbenchError(getattr(record, "id", ""), problem)
        checked.append(record)
        spans.append((len(rows), len(rows) + len(answers)))
        rows += answers
    role_scores = [score_rows(roles, name, rows, batch_size=batch_size, batch_tokens=batch_tokens) for name in names]
    table = finite_scores(torch.stack(role_scores).double().numpy())  # (roles, answers)
    scores, spreads = table.mean(axis=0).tolist(), table.std(axis=0).tolist()
    lines = []
    for record, (start, end) in zip(checked, spans, strict=True):
        line = _line(record, scores[start:end])
        lines.append(line | ({"spread": spreads[start:end]} if len(names) > 1 and end > start else {}))
    return lines


def token_rows(tokenizer: Any, record: Record) -> list[list[int]]:
    """Prompt and response of each answer of a record; an answer that did not end has no EOS."""
    if isinstance(record, WorkbenchError):
        return []
    if isinstance(record, Preference):
        return encode_rows(tokenizer, record.prompt, record.chosen_text, record.rejected_text)
    if isinstance(record, Demonstration):
        return encode_rows(tokenizer, record.prompt, record.response)
    rows = encode_rows(tokenizer, record.prompt, *(response.text for response in record.responses))
    return [row if response.ended else row[:-1] for row, response in zip(rows, record.responses, strict=True)]


def _line(record: Record, scores: Sequence[float]) -> dict[str, Any]:
    if isinstance(record, WorkbenchError):
        return {"left_out": record.problem, "place": record.place}
    if isinstance(record, Preference):
        chosen, rejected = scores
        return {"id": record.id, "chosen": chosen, "rejected": rejected, "gap": chosen - rejected}
    if isinstance(record, Item):
        return {"id": record.id, "scores": list(scores)}
    return {"id": record.id, "score": scores[0]}


def _made_from(folder: RunFolder, file: Path) -> list[str]:
    """Fingerprints of the adapters, the heads and the file."""
    parts = [part for member in folder.members for part in (member.adapter, member.head_path)]
    return [data_fingerprint(part)["sha256"] for part in (*parts, file)]


def _windows(records: Iterator[Record], size: int) -> Iterator[list[Record]]:
    while window := list(itertools.islice(records, size)):
        yield window
