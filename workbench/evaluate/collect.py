"""The runs of a report, read from their folders: order, names, colours. Knows no chart and no page."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.evaluate.charts import SERIES
from workbench.evaluate.evaluation import Evaluation, read_evaluation
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder

PHASES = ("sft", "classify", "reward", "ppo", "dpo", "slic")
"""The order of phases in a report."""


@dataclass(frozen=True)
class RunView:
    """One run, as its folder describes it."""

    folder: RunFolder
    record: dict[str, Any]
    metrics: list[dict[str, Any]]
    samples: list[dict[str, Any]]
    evaluation: Evaluation | None
    missing: str | None
    """Why there is no evaluation, and the command that makes one."""
    colour: int
    """1 … SERIES, the same in every chart."""

    @property
    def name(self) -> str:
        """Name of the run."""
        return str(self.record.get("name") or self.folder.path.name)

    @property
    def phase(self) -> str:
        """Phase of the run."""
        return str(self.record.get("phase", "?"))

    @property
    def is_policy(self) -> bool:
        """Whether its evaluation is a policy's."""
        return self.evaluation is not None and self.evaluation.policy is not None

    def parents(self) -> dict[str, str]:
        """Role → name of the run's parents."""
        return {str(role): Path(str(path)).name for role, path in self.record.get("parents", {}).items()}

    def series(self, metric: str) -> tuple[list[float], list[float]]:
        """Steps and values of a metric, without rows that lack it."""
        rows = [row for row in self.metrics if isinstance(row.get(metric), int | float)]
        return [float(row["step"]) for row in rows], [float(row[metric]) for row in rows]


def find_runs(folder: Path) -> list[Path]:
    """The runs directly inside a folder, or the folder itself if it is a run.

    Raises:
        WorkbenchError: there is none.
    """
    if (folder / "run.json").is_file():
        return [folder]
    found = sorted(path.parent for path in folder.glob("*/run.json"))
    if not found:
        raise WorkbenchError(
            folder,
            "no run in this folder" if folder.is_dir() else "no such folder",
            expected="a folder of runs, each with its run.json",
            remedy="python -m workbench demo makes one, or give the run folders themselves",
        )
    return found


def read_runs(paths: Sequence[Path]) -> list[RunView]:
    """Read runs and order them: parents before children, then by phase, then by name.

    Raises:
        WorkbenchError: a folder is not a run, or one of its files is broken. A run without evaluation is no error.
    """
    folders = [RunFolder.open(path) for path in dict.fromkeys(paths)]
    records = {folder.path: folder.record() for folder in folders}
    ordered = sorted(folders, key=lambda folder: _sort_key(folder, records[folder.path], records.values()))
    return [_read(folder, records[folder.path], index) for index, folder in enumerate(ordered)]


def _read(folder: RunFolder, record: dict[str, Any], index: int) -> RunView:
    evaluation, missing = None, None
    if folder.evaluation_path.is_file():
        evaluation = read_evaluation(folder.path)
    else:
        missing = f"not evaluated yet: python -m workbench evaluate {shlex.quote(str(folder.path))}"
        if record.get("phase") == "classify":
            missing = "not measured yet: a classifier is measured when its training ends"
    metrics, samples = folder.read_metrics(), folder.read_samples()
    return RunView(folder, record, metrics, samples, evaluation, missing, index % SERIES + 1)


def _sort_key(folder: RunFolder, record: dict[str, Any], records: Iterable[dict[str, Any]]) -> tuple[int, int, str]:
    """Sort key: generations of known parents, phase, name."""
    by_name = {other.get("name"): other for other in records}
    phase = record.get("phase")
    rank = PHASES.index(phase) if phase in PHASES else len(PHASES)
    return _depth(record, by_name, ()), rank, folder.path.name


def _depth(record: dict[str, Any], by_name: dict[Any, dict[str, Any]], above: tuple[Any, ...]) -> int:
    names = {Path(str(path)).name for path in record.get("parents", {}).values()}
    known = [by_name[name] for name in names if name in by_name and name not in above]
    return 1 + max((_depth(parent, by_name, (*above, parent.get("name"))) for parent in known), default=-1)


def depth_of(view: RunView, views: Sequence[RunView]) -> int:
    """Number of generations of parents that a run has among the given runs."""
    return _depth(view.record, {other.record.get("name"): other.record for other in views}, ())


def starting_policy(view: RunView, views: Sequence[RunView]) -> RunView | None:
    """The evaluated policy that a run started from: a policy among its parents, else the first sft run."""
    parents = set(view.parents().values())
    candidates = [other for other in views if other is not view and other.is_policy]
    direct = [other for other in candidates if other.name in parents]
    first = [other for other in candidates if other.phase == "sft"] if view.phase != "sft" else []
    return next(iter([*direct, *first]), None)
