"""The runs of a report, read from their folders: order, names, colours. Knows no chart and no page."""

import contextlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.evaluate.charts import SERIES
from workbench.evaluate.evaluation import Evaluation, read_evaluation
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.parents import find_parent, unique_names

PHASES = ("sft", "classify", "reward", "ppo", "dpo", "slic")
"""The order of phases in a report."""
Lines = Mapping[Path, Mapping[str, Path]]
"""Run → role → its parent, as resolved folders."""


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
    name: str
    """Of the run; if two runs of the report are called alike, the end of its path that tells it from every other."""
    lineage: Mapping[str, Path]
    """Role → resolved folder of each parent that is found."""
    parents: Mapping[str, str]
    """Role → name of each parent."""

    @property
    def phase(self) -> str:
        """Phase of the run."""
        return str(self.record.get("phase", "?"))

    @property
    def is_policy(self) -> bool:
        """Whether its evaluation is a policy's."""
        return self.evaluation is not None and self.evaluation.policy is not None

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
    folders = [RunFolder.open(path) for path in {path.resolve(): path for path in paths}.values()]
    records = {folder.path: folder.record() for folder in folders}
    lines = {folder.path.resolve(): _parent_paths(folder, records[folder.path]) for folder in folders}
    names = {folder.path.resolve(): str(records[folder.path].get("name") or folder.path.name) for folder in folders}
    if len(set(names.values())) < len(names):
        names = unique_names([folder.path for folder in folders])
    ordered = sorted(folders, key=lambda folder: _sort_key(folder, records[folder.path], lines))
    return [_read(folder, records[folder.path], index, lines, names) for index, folder in enumerate(ordered)]


def _parent_paths(folder: RunFolder, record: dict[str, Any]) -> dict[str, Path]:
    """Role → folder of each parent that is found; one that is not there is not in the report either."""
    found = {}
    for role in record.get("parents", {}):
        with contextlib.suppress(WorkbenchError):
            if parent := find_parent(folder, role):
                found[role] = parent.path.resolve()
    return found


def _read(folder: RunFolder, record: dict[str, Any], index: int, lines: Lines, names: Mapping[Path, str]) -> RunView:
    evaluation, missing = None, None
    if folder.evaluation_path.is_file():
        evaluation = read_evaluation(folder.path)
    else:
        missing = f"not evaluated yet: python -m workbench evaluate {shlex.quote(str(folder.path))}"
        if record.get("phase") == "classify":
            missing = "not measured yet: a classifier is measured when its training ends"
    metrics, samples = folder.read_metrics(), folder.read_samples()
    run, written = folder.path.resolve(), record.get("parents", {})
    parents = {str(role): _parent_name(lines[run].get(role), path, names) for role, path in written.items()}
    colour = index % SERIES + 1
    return RunView(folder, record, metrics, samples, evaluation, missing, colour, names[run], lines[run], parents)


def _parent_name(found: Path | None, written: object, names: Mapping[Path, str]) -> str:
    return names[found] if found is not None and found in names else Path(str(written)).name


def _sort_key(folder: RunFolder, record: dict[str, Any], lines: Lines) -> tuple[int, int, str]:
    """Sort key: generations of known parents, phase, name."""
    phase = record.get("phase")
    rank = PHASES.index(phase) if phase in PHASES else len(PHASES)
    return _depth(folder.path.resolve(), lines, ()), rank, folder.path.name


def _depth(run: Path, lines: Lines, above: tuple[Path, ...]) -> int:
    known = [path for path in set(lines[run].values()) if path in lines and path not in (*above, run)]
    return 1 + max((_depth(parent, lines, (*above, run)) for parent in known), default=-1)


def depth_of(view: RunView, views: Sequence[RunView]) -> int:
    """Number of generations of parents that a run has among the given runs."""
    return _depth(view.folder.path.resolve(), {other.folder.path.resolve(): other.lineage for other in views}, ())


def starting_policy(view: RunView, views: Sequence[RunView]) -> RunView | None:
    """The evaluated policy among the given runs that a run started from; None if that run is not among them."""
    candidates = [other for other in views if other is not view and other.is_policy]
    return next((other for other in candidates if other.folder.path.resolve() == view.lineage.get("start")), None)
