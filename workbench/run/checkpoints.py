"""Atomic checkpoints: a folder `step-N` is complete or does not exist. Does not know what a checkpoint contains.

A checkpoint is written next to its final place under a hidden name, every file is flushed to the disk, and then the
folder is renamed. A process that is killed at any moment leaves the previous checkpoints untouched.
"""

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from workbench.run.errors import WorkbenchError

STEP_FOLDER = re.compile(r"step-(\d+)")


def save_checkpoint(
    root: Path, step: int, write: Callable[[Path], None], *, keep_last: int, keep: Collection[int] = ()
) -> Path:
    """Let `write` fill a hidden folder, publish it as `root/step-N`, delete all but the newest `keep_last` and `keep`.

    After any failure the hidden folder is removed and older checkpoints are unchanged.

    Raises:
        WorkbenchError: the disk is full.
    """
    make_folder(root)
    hidden = root / f".writing-{step}"
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir()
    try:
        with full_disk_explained(root.parent):  # checked before the hidden folder is deleted, which frees its space
            write(hidden)
            published = publish_checkpoint(hidden, root, step)
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise
    prune_checkpoints(root, keep_last, keep)
    return published


def publish_checkpoint(written: Path, root: Path, step: int) -> Path:
    """Flush a complete folder to the disk and rename it to `root/step-N`, replacing an older one of that name."""
    flush_tree(written)
    final = root / f"step-{step}"
    _replace_folder(written, final)
    return final


def prune_checkpoints(root: Path, keep_last: int, keep: Collection[int] = ()) -> None:
    """Delete the oldest checkpoints except those in `keep`, and folders that a killed process left half-written."""
    for step in set(checkpoint_steps(root)[:-keep_last]) - set(keep):
        # Rename first, so that a half-deleted checkpoint is never mistaken for a complete one.
        (root / f"step-{step}").rename(root / f".writing-deleted-{step}")
    for leftover in root.glob(".writing-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def checkpoint_steps(root: Path) -> list[int]:
    """The steps of the complete checkpoints, ascending."""
    if not root.is_dir():
        return []
    matches = [STEP_FOLDER.fullmatch(path.name) for path in root.iterdir()]
    return sorted(int(match.group(1)) for match in matches if match)


def latest_checkpoint(root: Path) -> Path | None:
    """The newest complete checkpoint, or None."""
    steps = checkpoint_steps(root)
    return root / f"step-{steps[-1]}" if steps else None


def flush_tree(folder: Path) -> None:
    """fsync every file and folder below a folder, and the folder itself."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        else:
            flush_folder(path)
    flush_folder(folder)


def flush_folder(folder: Path) -> None:
    """fsync a folder's list of names, so that a rename survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text_atomically(path: Path, text: str, *, private: bool = False) -> None:
    """Replace a file's whole content, or leave it unchanged.

    Args:
        private: only the file's owner can read it.

    Raises:
        WorkbenchError: the file cannot be written.
    """
    make_folder(path.parent)
    hidden = path.with_name(f".{path.name}.writing")
    try:
        with refusal_explained(path):
            hidden.unlink(missing_ok=True)  # left by a killed process, perhaps with another mode
            with open(hidden, "w", encoding="utf-8", opener=private_opener if private else None) as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            hidden.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            hidden.unlink()
        raise
    flush_folder(path.parent)


def private_opener(name: str, flags: int) -> int:
    """An `opener` for `open`: a new file is for its owner only."""
    return os.open(name, flags, 0o600)


def make_folder(path: Path) -> None:
    """Create a folder and its missing parents.

    Raises:
        WorkbenchError: it cannot be created.
    """
    with refusal_explained(path):
        path.mkdir(parents=True, exist_ok=True)


REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)
"""Error numbers of a path that cannot be written because of permissions or because of what is there."""


@contextlib.contextmanager
def refusal_explained(path: Path) -> Iterator[None]:
    """Turn the system's refusal to write to a path that the user chose into a WorkbenchError."""
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSALS:
            if error.errno is not None and error.filename is None:  # a failed write names no file
                error.filename = str(path)
            raise
        raise WorkbenchError(
            path,
            f"cannot be written: {error.strerror}: {error.filename}",
            expected="a path in a folder that this account may write to",
            remedy="give another path",
        ) from error


def publish_folder(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a hidden folder, flush it, and rename it to `path`, replacing what is there."""
    make_folder(path.parent)
    hidden = path.with_name(f".{path.name}.writing")
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir()
    try:
        with full_disk_explained(path.parent):
            write(hidden)
            flush_tree(hidden)
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise
    _replace_folder(hidden, path)


def _replace_folder(written: Path, path: Path) -> None:
    """Rename a complete folder to `path`; an existing one is renamed away first and deleted afterwards."""
    old = path.with_name(f".writing-replaced-{path.name}")
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        path.rename(old)
    written.rename(path)
    flush_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)


SPACE_LEFT = 1 << 20
"""Bytes. With less free space than this, a failed write is attributed to a full disk."""


@contextlib.contextmanager
def full_disk_explained(folder: Path) -> Iterator[None]:
    """Turn a write that failed because the disk is full into a WorkbenchError, whatever library it came from.

    torch and safetensors report a full disk as a RuntimeError or as an error of their own, without errno.
    """
    try:
        yield
    except WorkbenchError:
        raise
    except Exception as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
        if not full and "No space left" not in str(error) and shutil.disk_usage(existing).free > SPACE_LEFT:
            raise
        steps = checkpoint_steps(folder / "checkpoints")
        last = f"step-{steps[-1]}" if steps else "none yet"
        raise WorkbenchError(
            folder,
            "the disk is full; nothing was saved",
            expected=f"space for a checkpoint; the last complete one ({last}) is untouched",
            remedy="free some space, then start the same command with --resume",
        ) from error
