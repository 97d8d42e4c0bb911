"""Metrics to `metrics.jsonl`, answers to `samples.jsonl`, and both to Weights & Biases.

The files are the record; W&B is a copy. If W&B fails, the failure is printed once and noted in run.json, and copying
ends; the run goes on. The only file that knows wandb.
"""

import json
import math
import os
import secrets
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from workbench.run.errors import WorkbenchError
from workbench.run.folder import FINISHED, RunFolder

Mode = Literal["auto", "online", "offline", "disabled"]
PROJECT = "alignment-workbench"
SAMPLE_COLUMNS = ("step", "prompt_id", "prompt", "response", "ended", "score", "kl")


class Tracker:
    """Writes a run's metrics and samples. Only rank 0 of a distributed run has one.

    Args:
        folder: the run's folder.
        project: W&B project; None: `$WANDB_PROJECT`, else `PROJECT`.
        mode: `auto` is `$WANDB_MODE` if it is set; otherwise online if logged in, else offline. It never prompts.
        config: the configuration that W&B shows.
    """

    def __init__(self, folder: RunFolder, *, project: str | None, mode: Mode, config: Mapping[str, Any]) -> None:
        self.folder, self.status = folder, "finished"
        mode = _mode_of_environment() if mode == "auto" else mode
        self.started = time.monotonic() - self._seconds_so_far()
        self._metrics = folder.metrics_path.open("a", encoding="utf-8")
        self._samples = folder.samples_path.open("a", encoding="utf-8")
        self._wandb: Any = None
        if mode != "disabled":
            self._guarded("starting", lambda: self._start_wandb(project, mode, config))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Append one row of `group/name` values; NaN and infinity become null."""
        seconds = round(time.monotonic() - self.started, 3)
        row = {"step": step, "seconds": seconds, **{name: _finite(value) for name, value in metrics.items()}}
        self._metrics.write(json.dumps(row, allow_nan=False) + "\n")
        self._metrics.flush()
        if self._wandb is not None:
            self._guarded("logging", lambda: self._wandb.log({**metrics, "seconds": seconds}, step=step))

    def samples(self, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        """Append sampled answers; W&B receives them as a table."""
        for row in rows:
            self._samples.write(json.dumps({"step": step, **row}, ensure_ascii=False) + "\n")
        self._samples.flush()
        if self._wandb is not None:
            self._guarded("logging a table", lambda: self._log_table(rows, step))

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.finish(self.status if kind is None else "stopped")

    def finish(self, status: str = "finished") -> None:
        """Close the files and the W&B run, note the status in run.json, and release the folder."""
        for file in (self._metrics, self._samples):
            file.flush()
            os.fsync(file.fileno())
            file.close()
        if self._wandb is not None:
            exit_code = 0 if status in FINISHED else 1
            self._guarded("finishing", lambda: self._wandb.finish(exit_code=exit_code))
        self.folder.update_record(status=status, seconds=round(time.monotonic() - self.started, 1))
        self.folder.release()

    def _start_wandb(self, project: str | None, mode: Mode, config: Mapping[str, Any]) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        mode = _by_login(mode)
        record = self.folder.record()
        group, name = run_name(self.folder)
        run_id = record.get("wandb_id") or secrets.token_hex(4)
        # Arguments of wandb.init override the environment, so variables that the user has set are passed on.
        settings: dict[str, Any] = {
            **_common_settings(project, name, self.folder.path),
            "group": os.environ.get("WANDB_RUN_GROUP") or group,
            "id": run_id,
            "resume": "allow",
            "config": dict(config),
            "job_type": record["phase"],
        }
        try:
            self._wandb = wandb.init(mode=mode, **settings)
        except wandb.errors.CommError as error:
            wandb.teardown()  # the service still holds the id of the run that failed to start
            mode = "offline"
            self._wandb = wandb.init(mode=mode, **settings)
            print(
                f"warning: W&B cannot be reached ({str(error).splitlines()[0]}); this run is kept offline, "
                f"`wandb sync {settings['dir']}/wandb/offline-run-*-{run_id}` uploads it later",
                file=sys.stderr,
            )
        self.folder.update_record(wandb_id=run_id, wandb_mode=mode)

    def _log_table(self, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        import wandb

        columns: list[str | int] = [
            name for name in SAMPLE_COLUMNS if name == "step" or any(name in row for row in rows)
        ]
        data = [[_cell({"step": step, **row}.get(str(name))) for name in columns] for row in rows]
        self._wandb.log({"samples": wandb.Table(columns=columns, data=data)}, step=step)

    def _guarded(self, doing: str, action: Any) -> None:
        """Run a W&B call; if it fails, print why and stop copying to W&B.

        wandb can raise any exception type (network, disk, its service), and none should end the run.
        """
        try:
            action()
        except Exception as error:
            self._wandb = None
            message = f"{type(error).__name__}: {error}"
            print(
                f"warning: W&B failed while {doing} ({message}); the run goes on, metrics stay in "
                f"{self.folder.metrics_path}",
                file=sys.stderr,
            )
            self.folder.update_record(wandb_error=message)

    def _seconds_so_far(self) -> float:
        rows = self.folder.read_metrics()
        return float(rows[-1]["seconds"]) if rows else 0.0


class NoTracker:
    """No-op tracker for ranks above 0: rank 0 tracks for all."""

    status = "finished"

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Nothing."""

    def samples(self, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        """Nothing."""

    def __enter__(self) -> "NoTracker":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        pass


def log_table(
    name: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    folder: Path,
    mode: Mode,
    project: str | None = None,
) -> None:
    """Log one table as a W&B run of its own, named after the folder; if W&B fails, say so and go on.

    Args:
        name: of the table.
        columns: names of the columns.
        rows: cells.
        folder: where the table was made; an offline run is kept there.
        mode, project: as in `Tracker`.
    """
    mode = _mode_of_environment() if mode == "auto" else mode
    if mode == "disabled":
        return
    os.environ.setdefault("WANDB_SILENT", "true")
    try:
        import wandb

        name_of_run = f"{folder.resolve().parent.name}/{folder.name}"
        settings = _common_settings(project, name_of_run, folder)
        with wandb.init(mode=_by_login(mode), job_type="evaluate", **settings) as run:
            run.log({name: wandb.Table(columns=list(columns), data=[list(row) for row in rows])})
    except Exception as error:  # wandb can raise any exception type; the files are the record
        print(f"warning: W&B failed while logging a table ({type(error).__name__}: {error})", file=sys.stderr)


def _by_login(mode: Mode) -> Literal["online", "offline", "disabled"]:
    """The mode, with `auto` replaced: online if somebody is logged in."""
    import wandb

    if mode != "auto":
        return mode
    return "online" if wandb.login(prompt=False, verify=False) else "offline"


def _common_settings(project: str | None, name: str, folder: Path) -> dict[str, Any]:
    """Arguments of `wandb.init` for every run; `folder` is where an offline run is kept."""
    import wandb

    return {
        "project": project or os.environ.get("WANDB_PROJECT") or PROJECT,
        "name": os.environ.get("WANDB_NAME") or name,
        "dir": os.environ.get("WANDB_DIR") or folder,
        "settings": wandb.Settings(console="off", init_timeout=30, disable_git=True, save_code=False),
    }


def run_name(folder: RunFolder) -> tuple[str, str]:
    """W&B group and name of a run: `runs/demo/ppo` is `demo/ppo` in the group `demo`."""
    path = folder.path.resolve()
    run, member = (path.parents[1], f"/{path.name}") if path.parent.name == "members" else (path, "")
    return run.parent.name, f"{run.parent.name}/{run.name}{member}"


def _mode_of_environment() -> Mode:
    """The mode in `$WANDB_MODE`; `auto` if it is not set.

    Raises:
        WorkbenchError: it is not one of W&B's modes.
    """
    said = os.environ.get("WANDB_MODE", "").lower()
    modes: dict[str, Mode] = {
        "": "auto", "online": "online", "offline": "offline", "dryrun": "offline", "disabled": "disabled"
    }  # fmt: skip
    if said not in modes:
        raise WorkbenchError(
            "environment variable WANDB_MODE",
            f"{said!r} is unknown",
            expected="online, offline or disabled",
            remedy="set one of these, or tracking.wandb=… on the command line",
        )
    return modes[said]


def _finite(value: float) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


def _cell(value: Any) -> Any:
    """A plain value for a W&B table: a list of messages becomes text."""
    if isinstance(value, Iterable) and not isinstance(value, str):
        return "\n".join(f"{message['role']}: {message['content']}" for message in value)
    return value
