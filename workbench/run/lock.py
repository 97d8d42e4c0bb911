"""A lock on a run folder or an unfinished output: one process at a time.

The system releases it when the process ends, however it ends. Other processes, also on other machines that share the
disk, see who holds a folder.
"""

import fcntl
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

from workbench.run.checkpoints import refusal_explained
from workbench.run.errors import WorkbenchError

NAME = ".lock"
_held: dict[Path, int] = {}
"""Folder or file → descriptor of its open lock, in this process."""


def hold(folder: Path) -> None:
    """Lock a folder for this process; a second call changes nothing.

    Raises:
        WorkbenchError: another process holds it, or nothing can be written there.
    """
    path = folder.resolve()
    if path in _held:
        return
    with refusal_explained(folder):
        descriptor = os.open(path / NAME, os.O_RDWR | os.O_CREAT, 0o644)
    if not _taken(descriptor):
        os.close(descriptor)
        raise _held_elsewhere(folder)
    os.ftruncate(descriptor, 0)
    who = {"pid": os.getpid(), "host": platform.node(), "since": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    os.write(descriptor, json.dumps(who).encode())
    _held[path] = descriptor


def hold_unfinished(path: Path, out: Path) -> None:
    """Lock the unfinished file of an output for this process, and create it if missing; a second call changes nothing.

    Args:
        path: the unfinished file, which becomes `out` or is deleted once it is complete.
        out: the output, for messages.

    Raises:
        WorkbenchError: another process holds it, or nothing can be written there.
    """
    while not _is_open_at(_held.get(path.resolve()), path):  # the file may have got its name since it was opened
        release(path)
        with refusal_explained(out):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        if not _taken(descriptor):
            os.close(descriptor)
            raise WorkbenchError(
                out,
                "is being written by another process",
                expected="one process at a time for each output",
                remedy="wait until that process ends, or stop it first; or name another output",
            )
        _held[path.resolve()] = descriptor


def _is_open_at(descriptor: int | None, path: Path) -> bool:
    """Whether the descriptor is that of the file which is at the path now."""
    return descriptor is not None and path.exists() and os.path.samestat(os.fstat(descriptor), path.stat())


def release(place: Path) -> None:
    """Release the lock of a folder or file if this process holds it."""
    descriptor = _held.pop(place.resolve(), None)
    if descriptor is not None:
        os.close(descriptor)


def check_free(folder: Path) -> None:
    """Check that no other process holds the folder, without changing anything.

    Raises:
        WorkbenchError: another process holds it.
    """
    path = folder.resolve() / NAME
    if path.parent in _held or not path.is_file():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if not _taken(descriptor):
            raise _held_elsewhere(folder)
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _held_elsewhere(folder: Path) -> WorkbenchError:
    text = (folder / NAME).read_text(encoding="utf-8")
    who: dict[str, Any] = json.loads(text) if text else {}  # empty for a moment after the lock is taken
    process = f"process {who['pid']} on {who['host']}, since {who['since']}" if who else "another process"
    return WorkbenchError(
        folder,
        f"is in use by {process}",
        expected="one process at a time in a run folder",
        remedy="wait until that process ends, or stop it first; or give another run.dir",
    )
