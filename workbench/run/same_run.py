"""Whether a command with `--resume` continues the run that a folder holds: same values, same files, same parent runs.

Files and runs are compared by content, so they may have been moved. Knows paths and records, no model.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from workbench.run.config import Section, dotted
from workbench.run.errors import WorkbenchError
from workbench.run.lineage import base_fingerprint, data_fingerprint, run_fingerprint

MAY_CHANGE = ("tracking.", "checkpoint.", "run.", "passport.facts", "spot_checks.annotate", "spot_checks.pause")
"""Keys, or beginnings of keys, that do not change what is trained; of `run.`, the seed does."""


def check_same_run(config_path: Path, record: Mapping[str, Any], config: Section) -> list[str]:
    """One line for each file or run that was moved since the run began.

    Args:
        config_path: the configuration that the run began with.
        record: the run's run.json.
        config: the configuration of the command that resumes it.

    Raises:
        WorkbenchError: a value differs, or a file or a run holds other content than the run was made from.
    """
    before = _values(yaml.safe_load(config_path.read_text(encoding="utf-8")))
    now = _values(config.model_dump(mode="json"))
    recorded = _recorded_contents(record)
    moved, changed = [], []
    for key in sorted(before.keys() | now.keys()):
        same_value = key in before and key in now and before[key] == now[key]
        content = _content(key, now.get(key)) if key in recorded else None
        if content is None or recorded[key] is None:
            if not same_value:
                changed.append(key)
        elif content != recorded[key]:
            raise WorkbenchError(
                f"{key}={_shown(now[key])}",
                "holds other content than this run was made from",
                expected="the file or run that the run began with; it may have been moved",
                remedy="give that one, or start over with run.overwrite=true",
            )
        elif not same_value:
            paths = f"{_shown(before.get(key))} → {_shown(now[key])}"
            moved.append(f"{key} was moved, the content is the same: {paths}")
    if changed:
        raise WorkbenchError(
            config_path,
            f"--resume with another configuration; these keys differ: {', '.join(changed)}",
            remedy="repeat the values of the first command, or start over with run.overwrite=true",
        )
    return moved


def _values(config: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in dotted(config).items() if k == "run.seed" or not k.startswith(MAY_CHANGE)}


def _recorded_contents(record: Mapping[str, Any]) -> dict[str, Any]:
    """Key → fingerprint of what it led to when the run began; None if the record does not say."""
    parents = {role: trace.get("adapter") for role, trace in record.get("parents_at", {}).items()}
    rewards, judges = (
        [made for role, made in parents.items() if role.startswith(kind)] for kind in ("reward", "judge")
    )
    files = {f"data.{name}": file["sha256"] for name, file in record.get("data", {}).items()}
    base = record.get("base", {}).get("fingerprint")
    return {
        **files,
        "model.start": parents.get("start"),
        "model.reference": parents.get("reference"),
        "model.reward": rewards if rewards and None not in rewards else None,
        "guard.judge": judges if judges and None not in judges else None,
        "model.base": base or None,
    }


def _content(key: str, value: Any) -> Any:
    """The fingerprint of what a path leads to now; None if there is nothing on this machine, as for a hub id."""
    if value is None:
        return None
    if key in ("model.reward", "guard.judge"):
        runs = [Path(run) for run in ([value] if isinstance(value, str) else value)]
        found = [run_fingerprint(member) for run in runs for member in _members(run)]
        return None if None in found else found
    path = Path(value)
    if key in ("model.start", "model.reference"):
        return run_fingerprint(path)
    if key == "model.base":
        return base_fingerprint(path) if path.is_dir() else None
    return data_fingerprint(path)["sha256"] if path.exists() else None


def _members(run: Path) -> list[Path]:
    """The runs of an ensemble, in their order; the run itself if it is none."""
    return sorted(run.glob("members/*"), key=lambda path: int(path.name)) or [run]


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
