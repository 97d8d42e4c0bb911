"""No PPO against a reward model that has not shown its papers. Knows passport.json, not how it was made."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.lineage import file_fingerprint

VERSION = 1
"""Of the passports that are understood."""


def check_passports(rewards: Sequence[RunFolder], *, force: bool) -> dict[str, list[str]]:
    """Every reward run has passed its examination, as it is now.

    Args:
        rewards: the reward runs, as named in `model.reward`.
        force: go on all the same.

    Returns:
        Run → what is wrong with its passport; empty unless forced.

    Raises:
        WorkbenchError: a passport is missing, fails, or is of other weights, and `force` is not set.
    """
    problems = {str(reward.path): objections(reward) for reward in rewards}
    problems = {run: found for run, found in problems.items() if found}
    if problems and not force:
        run, found = next(iter(problems.items()))
        raise WorkbenchError(
            run,
            f"PPO is refused against this reward model: {', '.join(found)}",
            expected=f"a passport that passes (see {Path(run) / 'passport.html'})",
            remedy=f"python -m reward passport {run} examines it; --force (model.force=true) goes on, on the record",
        )
    return problems


def objections(reward: RunFolder) -> list[str]:
    """What is wrong with a run's passport: the checks that fail, or one sentence; nothing where it passes.

    Raises:
        WorkbenchError: the file is broken.
    """
    path = reward.path / "passport.json"
    if not path.is_file():
        return ["it has no passport"]
    try:
        passport: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version, outcome = passport["version"], passport["outcome"]
        failed, files = list(passport["failed"]), dict(passport["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise WorkbenchError(
            path, f"is no passport ({error})", remedy=f"python -m reward passport {reward.path}"
        ) from None
    if version != VERSION:
        return [f"its passport is of version {version}, not {VERSION}"]
    changed = [name for name, digest in files.items() if _digest(reward.path / name) != digest]
    if changed or not files:
        return [f"its passport is of other weights ({', '.join(changed) or 'none'})"]
    if outcome == "pass":
        return []
    return [f"check {name} fails" for name in failed] or ["its passport fails"]


def forced_text(forced: dict[str, list[str]]) -> str:
    """For the model card."""
    return "; ".join(f"`{run}`: {', '.join(found)}" for run, found in forced.items())


def _digest(path: Path) -> str | None:
    return str(file_fingerprint(path)["sha256"]) if path.is_file() else None
