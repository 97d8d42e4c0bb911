"""Which runs were trained on sought records, and the commands that train them again without these.

A run is touched if one of its data files held a sought record, or if one of its parent runs is touched. Whose records a
file held is in run.json; a record's id, and files of older runs, are searched for in the file.
"""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from workbench.data.files.decoding import inner_suffix, stem
from workbench.lineage.trace import Sought, count_records, without
from workbench.run.config import read_values
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.lineage import data_fingerprint
from workbench.run.parents import check_circle, find_data, find_parent
from workbench.run.progress import progress

SUFFIX = "-refit"
SINGLE = ("start", "reference")
"""Roles of parents whose key is `model.ROLE`."""
SEVERAL = {"reward": "model.reward", "judge_": "guard.judge"}
"""Beginnings of roles of one or more parents → their key."""

_MIXED = re.compile(r"mix_\d+")


@dataclass(frozen=True)
class Touched:
    """A run that has learned from sought records."""

    folder: RunFolder
    records: Mapping[str, int]
    """Data file by its name in run.json → sought records in it."""
    gone: tuple[str, ...]
    """Data files that are gone or have changed since, so that it cannot be trained again. Unless run.json says whose
    records they held, they may have held sought ones."""
    parents: Mapping[str, Path]
    """Role → touched parent run."""

    def __str__(self) -> str:
        why = [f"{count:,} records in {find_data(self.folder, name)}" for name, count in self.records.items()]
        why += [f"{find_data(self.folder, name)} is gone or has changed since" for name in self.gone]
        why += [f"{role} is {path}" for role, path in self.parents.items()]
        return f"{self.folder.path}: {'; '.join(why)}"


def touched_runs(root: Path, sought: Sought) -> list[Touched]:
    """The touched runs below a folder, parents before the runs that are made from them.

    Raises:
        WorkbenchError: there is no such folder, a file cannot be read, or runs are made from each other.
    """
    if not root.is_dir():
        raise WorkbenchError(root, "no such folder", expected="the folder that holds the runs", remedy="--runs DIR")
    folders = {
        path.parent.resolve(): RunFolder(path.parent)
        for path in sorted(root.rglob("run.json"))
        if path.parent.parent.name != "members"  # a member is trained again with its ensemble
    }
    counts: dict[Path, int] = {}
    digest = cache(lambda path: data_fingerprint(path)["sha256"])  # runs share files
    found: dict[Path, Touched | None] = {}

    def visit(place: Path) -> Touched | None:
        if place not in folders:
            return None
        if place not in found:
            found[place] = None
            found[place] = _touched(folders[place], sought, counts, digest, visit)
        return found[place]

    return [one for place in _parents_first(folders) if (one := visit(place)) is not None]


def _parents_first(folders: Mapping[Path, RunFolder]) -> list[Path]:
    order: dict[Path, None] = {}

    def add(place: Path, above: tuple[Path, ...]) -> None:
        check_circle((*above, place))
        for parent in _parents(folders[place]).values():
            if parent in folders and parent not in order:
                add(parent, (*above, place))
        order.setdefault(place)

    for place in folders:
        add(place, ())
    return list(order)


def _parents(folder: RunFolder) -> dict[str, Path]:
    """Role → the parent run, or the ensemble that it is a member of. A parent that is gone is left out."""
    found = {}
    for role in folder.record().get("parents", {}):
        try:
            parent = find_parent(folder, role)
        except WorkbenchError:
            continue
        if parent is not None:
            found[role] = _whole(parent.path)
    return found


def _whole(run: Path) -> Path:
    """The folder of a run, or of the ensemble that it is a member of."""
    path = run.resolve()
    return path.parents[1] if path.parent.name == "members" else path


def _touched(
    folder: RunFolder,
    sought: Sought,
    counts: dict[Path, int],
    digest: Callable[[Path], str],
    visit: Callable[[Path], Touched | None],
) -> Touched | None:
    record = folder.record()
    files, known = record.get("data", {}), record.get("annotators", {})

    def gone(name: str) -> bool:  # a time says nothing: a copy, or a run folder that was moved, may have any
        path = find_data(folder, name)
        if not path.exists() or (path.is_file() and path.stat().st_size != files[name]["bytes"]):
            return True
        return digest(path) != files[name]["sha256"]

    records, unknown = {}, []
    for name in files:
        path = find_data(folder, name)
        if sought.record is None and name in known:  # noted when the run began: the file is not read
            records[name] = sum(known[name].get(who, 0) for who in sought.annotators)
        elif gone(name):
            unknown.append(name)
        else:
            if path not in counts:
                counts[path] = count_records(path, sought)
            records[name] = counts[path]
    records = {name: count for name, count in records.items() if count}
    parents = {role: path for role, path in _parents(folder).items() if visit(path) is not None}
    if not (records or unknown or parents):
        return None
    return Touched(folder, records, tuple(filter(gone, files)), parents)


@dataclass(frozen=True)
class Plan:
    """How the touched runs are trained again: files without the sought records, then one command per run."""

    files: Mapping[Path, Path]
    """Data file → the file without the sought records."""
    commands: Sequence[Sequence[str]]
    """Words after `python -m`, in order."""
    blocked: Sequence[str]
    """What keeps runs from being trained again."""

    def __str__(self) -> str:
        lines = [f"write {new}: {old} without these records" for old, new in self.files.items()]
        lines += [f"python -m {shlex.join(command)}" for command in self.commands]
        return "\n".join([*lines, *(f"not possible: {problem}" for problem in self.blocked)])


def plan(touched: Sequence[Touched]) -> Plan:
    """The plan for the runs of `touched_runs`."""
    files: dict[Path, Path] = {}
    commands, blocked, again = [], [], {}
    for one in touched:
        record = one.folder.record()
        place, target = one.folder.path.resolve(), one.folder.path.with_name(one.folder.path.name + SUFFIX)
        lost = [str(find_data(one.folder, name)) for name in one.gone]
        lost += [str(path) for path in one.parents.values() if path not in again]
        if lost:
            blocked.append(f"{one.folder.path} needs {', '.join(lost)} as it was")
            continue
        own = [role for role in one.parents if role not in SINGLE and not role.startswith(tuple(SEVERAL))]
        if own:  # its configuration would read the old run
            named = ", ".join(f"{one.parents[role]} as {role}" for role in own)
            blocked.append(f"{one.folder.path} was made from {named}; make it again by hand from the new run")
            continue
        again[place] = target
        words = [one.folder.package, str(one.folder.config_path), f"run.dir={target}"]
        changed = dict[str, Path]()
        for name, file in record.get("data", {}).items():
            old = find_data(one.folder, name)
            if name in one.records:
                changed[name] = files.setdefault(old, _new_name(old, files.values()))
            elif str(old) != file["path"]:  # from here, the path in its configuration leads elsewhere
                changed[name] = old
        commands.append([*words, *_data_words(one.folder, changed), *_parent_words(one, again)])
    return Plan(files, commands, blocked)


def _data_words(folder: RunFolder, changed: Mapping[str, Path]) -> list[str]:
    """Data file → its new path, as values of the run's configuration; `mix_2` is the second of `data.mix` in sft."""
    words = [f"data.{name}={path}" for name, path in changed.items() if not _MIXED.fullmatch(name)]
    mixed = {int(name.removeprefix("mix_")): path for name, path in changed.items() if _MIXED.fullmatch(name)}
    if mixed:
        parts = read_values(folder.config_path)["data"]["mix"]
        named = [{**part, "file": str(mixed.get(number, part["file"]))} for number, part in enumerate(parts, 1)]
        words.append(f"data.mix={json.dumps(named)}")
    return words


def _new_name(old: Path, taken: Collection[Path]) -> Path:
    """The file next to a data file that holds its records without the sought ones; none of those that are taken."""
    short = old.with_name(f"{stem(old) if inner_suffix(old) == '.jsonl' else old.name}{SUFFIX}.jsonl")
    return old.with_name(f"{old.name}{SUFFIX}.jsonl") if short in taken else short


def _parent_words(one: Touched, again: Mapping[Path, Path]) -> list[str]:
    written, parents = one.folder.record().get("parents", {}), _parents(one.folder)
    # From here, the path in its configuration may lead elsewhere.
    other = {role: path for role, path in parents.items() if role in one.parents or _whole(Path(written[role])) != path}
    words = [f"model.{role}={again.get(other[role], other[role])}" for role in SINGLE if role in other]
    for prefix, key in SEVERAL.items():
        if any(role.startswith(prefix) for role in other):
            every = dict.fromkeys(path for role, path in parents.items() if role.startswith(prefix))
            named = [str(again.get(path, path)) for path in every]
            words.append(f"{key}={named[0] if len(named) == 1 else json.dumps(named)}")
    return words


def run_plan(
    todo: Plan, sought: Sought, *, write: Mapping[Path, Callable[[Path], object]] | None = None
) -> list[list[str]]:
    """Write the files and run the commands; returns the commands that were run.

    Args:
        todo: from `plan`.
        sought: the records to leave out.
        write: for data files that are made again rather than filtered, a function that writes the new file.

    Raises:
        WorkbenchError: a command failed.
    """
    makers = {path.resolve(): make for path, make in (write or {}).items()}
    for old, new in todo.files.items():
        make = makers.get(old.resolve())
        if make is not None:
            make(new)
        else:
            without(old, new, sought)
    for command in progress(list(todo.commands), description="refit", unit="run"):
        code = subprocess.run([sys.executable, "-m", *command], check=False).returncode
        if code:
            raise WorkbenchError(
                f"python -m {shlex.join(command)}",
                f"ended with code {code}",
                remedy="run it to see why; then the next ones",
            )
    return [list(command) for command in todo.commands]
