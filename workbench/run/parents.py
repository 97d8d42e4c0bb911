"""The runs and files that a run is made from: how they are recorded, and how they are found from any folder."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.lineage import data_fingerprint, run_fingerprint


def record_lineage(run: RunFolder, *, parents: Mapping[str, str], data: Mapping[str, Path], **more: Any) -> None:
    """Note in run.json the runs and the files (with fingerprints) that a run is made from, and further fields."""
    run.update_record(
        parents=dict(parents),
        parents_at={role: _trace(run.path, Path(path)) for role, path in parents.items()},
        data={name: data_fingerprint(path) | _relative(run.path, path) for name, path in data.items()},
        **more,
    )


def _trace(run: Path, parent: Path) -> dict[str, str | None]:
    """What is needed to find a moved parent: its path relative to the run, and the hash of its adapter."""
    return {"relative": os.path.relpath(parent.resolve(), run.resolve()), "adapter": run_fingerprint(parent)}


def _relative(run: Path, file: Path) -> dict[str, str]:
    """The path of a data file relative to the run; nothing for `hub:OWNER/NAME`, which is the same from any folder.

    A link keeps its own name, which says how the file is read.
    """
    return {"relative": os.path.relpath(_place(file), run.resolve())} if file.exists() else {}


def _place(file: Path) -> Path:
    return file.parent.resolve() / file.name


def find_data(run: RunFolder, name: str) -> Path:
    """The data file of this name in run.json, from any working directory, even if run and file were moved together.

    It is searched at its path relative to the run, and at the path as it was written; if files are in both places, the
    one with the recorded content counts. A written path that is relative leads elsewhere from another folder: the file
    there counts only with the recorded content. Whether the file is still there and unchanged is for the reader to
    check. A run that recorded no path relative to itself is read by the written one.

    Raises:
        WorkbenchError: run.json names no such file.
    """
    file = run.record().get("data", {}).get(name)
    if file is None:
        raise WorkbenchError(
            run.record_path,
            f"names no file data.{name}",
            expected="run.json as the run wrote it",
            remedy="copy the run folder again, or repeat the run",
        )
    written = Path(file["path"])
    if "relative" not in file:
        return written
    beside = Path(os.path.normpath(run.path.resolve() / file["relative"]))
    if beside == _place(written):
        return written
    certain = [beside, written] if written.is_absolute() else [beside]
    found = [path for path in (beside, written) if path.exists()]
    if len(found) > 1 or not set(found) <= set(certain):
        same = [path for path in found if data_fingerprint(path)["sha256"] == file["sha256"]]
        found = same or [path for path in found if path in certain]
    return found[0] if found else certain[-1]


def find_parents(run: RunFolder) -> dict[str, RunFolder]:
    """Role (`start`, `reward_1` and so on) → parent run.

    Raises:
        WorkbenchError: see `find_parent`.
    """
    return {role: parent for role in run.record().get("parents", {}) if (parent := find_parent(run, role))}


def find_parent(run: RunFolder, role: str) -> RunFolder | None:
    """The parent run of this role, even if both were moved or copied together; None if there is no such role.

    It is searched at its path relative to the run, at the path as it was written, and next to the run.

    Raises:
        WorkbenchError: it is in none of these places, or another run is there.
    """
    record = run.record()
    if role not in record.get("parents", {}):
        return None
    written, trace = Path(record["parents"][role]), record.get("parents_at", {}).get(role, {})
    paths = [*([run.path / trace["relative"]] if trace else []), written, run.path.parent / written.name]
    candidates = list(dict.fromkeys(RunFolder(Path(os.path.normpath(path))) for path in paths))
    own = os.path.normpath(run.path)  # next to a run of the same name as its parent is the run itself
    found = [one for one in candidates if str(one.path) != own and one.record_path.is_file()]
    for candidate in found:
        if trace.get("adapter") in (None, run_fingerprint(candidate.path)):
            return candidate
    option = "--base says where a base is" if role == "start" else "--reward RUN names a reward model"
    raise WorkbenchError(
        run.path,
        f"its {role} run {written} is not here"
        + (f": {found[0].path} holds another adapter than this run was made from" if found else ""),
        expected=f"that run, at {' or '.join(str(candidate.path) for candidate in candidates)}",
        remedy=f"copy the whole folder of runs together; {option} (evaluate), model.start=RUN and model.reward=RUN "
        "name runs for a phase",
    )


def unique_names(runs: Sequence[Path], *, reserved: Sequence[str] = ()) -> dict[Path, str]:
    """Resolved run → the end of its path, long enough to be neither another run's name nor a reserved one."""
    paths = list(dict.fromkeys(run.resolve() for run in runs))
    names: dict[Path, str] = {}
    for path in paths:
        others = [f"{other}" for other in paths if other != path]
        ends = ("/".join(path.parts[-length:]) for length in range(1, len(path.parts)))
        free = (end for end in ends if end not in reserved and not any(o.endswith(f"/{end}") for o in others))
        names[path] = next(free, str(path))
    return names


def check_circle(line: Sequence[Path]) -> None:
    """Check that the last run of a line of runs, each a parent of the one before, is not in it already.

    Raises:
        WorkbenchError: it is: no run can be made from itself.
    """
    if line[-1] in line[:-1]:
        circle = " is made from ".join(str(run) for run in line[line.index(line[-1]) :])
        raise WorkbenchError(
            line[-1] / "run.json",
            f"the parents of this run lead back to it: {circle}",
            expected="parents that were trained before the run",
            remedy="copy the run folders again, or correct `parents` in their run.json",
        )
