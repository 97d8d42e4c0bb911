"""The run folder: the files of one run, and how a run is created, opened and resumed.

Files are listed in docs/architecture.md. Does not know what a phase writes into them.
"""

import json
import shlex
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.run import lock
from workbench.run.checkpoints import checkpoint_steps, make_folder, write_text_atomically
from workbench.run.config import Section, write_config
from workbench.run.errors import WorkbenchError, did_you_mean
from workbench.run.lineage import git_commit, package_versions
from workbench.run.record import read_record
from workbench.run.same_run import check_same_run

FINISHED = ("finished", "rolled back")
"""Statuses of a run whose model is complete. `rolled back`: the guard stopped it and took an earlier policy."""
FIRST_FILES = ("config.yaml", ".run.json.writing", lock.NAME)
"""The only files in a folder whose run was killed while it was being created."""


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run. `create` starts one, `open` finds one."""

    path: Path

    @property
    def config_path(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def record_path(self) -> Path:
        """Phase, parents, versions, fingerprints, status."""
        return self.path / "run.json"

    @property
    def metrics_path(self) -> Path:
        """One JSON row per logged step."""
        return self.path / "metrics.jsonl"

    @property
    def samples_path(self) -> Path:
        """Sampled answers, one JSON row each."""
        return self.path / "samples.jsonl"

    @property
    def guard_path(self) -> Path:
        """Observations and decisions of the guard of post-training, one JSON row each."""
        return self.path / "guard.jsonl"

    @property
    def people_path(self) -> Path:
        """What people's spot checks of a training policy say, one JSON row for each change."""
        return self.path / "people.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Folder of `step-N` folders."""
        return self.path / "checkpoints"

    @property
    def adapter(self) -> Path:
        """The trained adapter in plain peft format, with the tokenizer."""
        return self.path / "adapter"

    @property
    def head_path(self) -> Path:
        """The head of a reward model, a value model or a classifier."""
        return self.path / "head.safetensors"

    @property
    def evaluation_path(self) -> Path:
        """The result of the last evaluation."""
        return self.path / "evaluation.json"

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        phase: str,
        config: Section,
        overwrite: bool = False,
        resume: bool = False,
    ) -> "RunFolder":
        """Create a run folder, or with `resume` reopen an existing one with the same configuration.

        The folder is locked for this process until `release`, or until the process ends.

        Raises:
            WorkbenchError: the folder holds another run, another phase or another configuration, or is in use.
        """
        moved = cls.check_startable(path, phase=phase, config=config, overwrite=overwrite, resume=resume)
        folder = cls(Path(path))
        if folder.record_path.is_file():
            if resume and folder.finished:
                return folder
            lock.hold(folder.path)
            if resume:
                print("".join(f"{folder.path}: {line}\n" for line in moved), end="")
                write_config(config, folder.config_path)
                return folder
            shutil.rmtree(folder.path)
            folder.release()
        make_folder(folder.path)
        lock.hold(folder.path)
        write_config(config, folder.config_path)
        folder.write_record(
            {
                "name": folder.path.name,
                "phase": phase,
                "status": "started",
                "schema_version": 1,
                "parents": {},
                "data": {},
                "versions": package_versions(),
                "git_commit": git_commit(),
                "started_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            }
        )
        return folder

    @classmethod
    def check_startable(
        cls, path: str | Path, *, phase: str, config: Section, overwrite: bool = False, resume: bool = False
    ) -> list[str]:
        """Check that `create` would start or resume the run, without touching anything.

        Returns:
            On a resume, a line for each file or run that was moved since the run began.

        Raises:
            WorkbenchError: the folder holds another run, another phase or another configuration, or is in use.
        """
        folder = cls(Path(path))
        lock.check_free(folder.path)
        if folder.record_path.is_file():
            folder._check_phase((phase,))
            if resume:
                return check_same_run(folder.config_path, folder.record(), config)
            if not overwrite:
                raise WorkbenchError(
                    folder.path,
                    f"already holds a {phase} run (status {folder.record()['status']!r})",
                    remedy="--resume continues it, run.overwrite=true replaces it, run.dir=… uses another folder",
                )
        elif folder.path.is_dir() and any(entry.name not in FIRST_FILES for entry in folder.path.iterdir()):
            raise WorkbenchError(
                folder.path,
                "is not empty and has no run.json",
                expected="a new or empty folder",
                remedy="run.dir=…",
            )
        elif folder.path.is_file():
            raise WorkbenchError(folder.path, "is a file", expected="a new or empty folder", remedy="run.dir=…")
        return []

    @classmethod
    def open(cls, path: str | Path, *, phase: str | tuple[str, ...] | None = None) -> "RunFolder":
        """Open an existing run of one of the given phases.

        Raises:
            WorkbenchError: there is no run, or it is of another phase.
        """
        folder = cls(Path(path))
        if not folder.record_path.is_file():
            siblings = [p.parent.name for p in folder.path.parent.glob("*/run.json")]
            raise WorkbenchError(
                folder.path,
                "no run here (there is no run.json)",
                expected="a run folder written by sft, reward or ppo",
                remedy=did_you_mean(folder.path.name, siblings) if siblings else "run the earlier phase first",
            )
        if phase is not None:
            folder._check_phase((phase,) if isinstance(phase, str) else phase)
        return folder

    def release(self) -> None:
        """Release the lock, so that other processes can work in this folder."""
        lock.release(self.path)

    @property
    def members(self) -> list["RunFolder"]:
        """The runs of an ensemble, `members/1` and so on; the run itself if it is not an ensemble."""
        number = int(self.record().get("members", 0))
        return [RunFolder(self.path / "members" / str(n)) for n in range(1, number + 1)] or [self]

    @property
    def package(self) -> str:
        """The package whose command makes such a run: `sft` also trains classifiers."""
        phase = str(self.record()["phase"])
        return {"classify": "sft"}.get(phase, phase)

    @property
    def has_head(self) -> bool:
        """Whether the run trains a head: a reward model, or a classifier of the method `head`."""
        record = self.record()
        return record["phase"] == "reward" or record.get("method") == "head"

    def record(self) -> dict[str, Any]:
        """The content of run.json.

        Raises:
            WorkbenchError: it cannot be read, or is no record of a run.
        """
        return read_record(self.record_path)

    def write_record(self, content: Mapping[str, Any]) -> None:
        """Replace run.json, atomically."""
        write_text_atomically(self.record_path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def update_record(self, **changes: Any) -> None:
        """Replace some fields of run.json."""
        self.write_record(self.record() | changes)

    def warn(self, kind: str, text: str, **moment: int) -> None:
        """Print a warning and note it in run.json, with its moment in the run, such as `iteration=3`."""
        where = "".join(f", {name} {number}" for name, number in moment.items())
        print(f"\nwarning{where}: {text}")
        self.update_record(warnings=[*self.record().get("warnings", []), {**moment, "kind": kind, "text": text}])

    @property
    def finished(self) -> bool:
        """Whether the run has ended successfully."""
        return self.record().get("status") in FINISHED

    def require_finished(self) -> "RunFolder":
        """This run, if it is finished.

        Raises:
            WorkbenchError: the run is unfinished, so its adapter is missing or old.
        """
        record = self.record()
        if record["status"] not in FINISHED:
            steps = checkpoint_steps(self.checkpoints)
            raise WorkbenchError(
                self.path,
                f"this {record['phase']} run is not finished (status {record['status']!r}, last checkpoint "
                f"{steps[-1] if steps else 'none'})",
                remedy=f"finish it: python -m {self.package} {shlex.quote(str(self.config_path))} --resume",
            )
        return self

    def read_metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl, without a last line that was cut off by a kill."""
        return _read_rows(self.metrics_path)

    def read_samples(self) -> list[dict[str, Any]]:
        """The rows of samples.jsonl."""
        return _read_rows(self.samples_path)

    def read_guard(self) -> list[dict[str, Any]]:
        """The rows of guard.jsonl; none if the run has no guard."""
        return _read_rows(self.guard_path)

    def read_people(self) -> list[dict[str, Any]]:
        """The rows of people.jsonl; none if the run has no spot checks."""
        return _read_rows(self.people_path)

    def rewind_rows(self, step: int) -> None:
        """Delete the rows of metrics, samples, guard and people after `step`: a resumed run writes them again."""
        for path in (self.metrics_path, self.samples_path, self.guard_path, self.people_path):
            if path.is_file():
                kept = [row for row in _read_rows(path) if row.get("step", 0) <= step]
                write_text_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))

    def _check_phase(self, phases: tuple[str, ...]) -> None:
        found = self.record().get("phase")
        if found not in phases:
            wanted = " or ".join(phases)
            raise WorkbenchError(
                self.path,
                f"is a {found} run",
                expected=f"a {wanted} run",
                remedy=f"give the folder of a {wanted} run",
            )


def _read_rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    rows = []
    lines = path.read_bytes().removesuffix(b"\n").split(b"\n")  # a kill may cut within a character
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number == len(lines):
                break
            raise WorkbenchError(f"{path}:{number}", f"broken JSON: {error}") from None
    return rows
