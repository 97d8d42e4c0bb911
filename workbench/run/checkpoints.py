"""Atomic checkpoints: a folder `step-N` exists complete or not at all. Knows nothing of what is inside.

A checkpoint is written beside its place under a hidden name, every file is flushed to the disk, and the
folder is renamed; a process killed at any moment leaves the previous checkpoints untouched.
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

    Raises:
        WorkbenchError: the disk is full; as after any failure, the hidden folder is removed and older checkpoints stay
            as they were.
    """
    make_folder(root)
    hidden = root / f".writing-{step}"
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir()
    try:
        with full_disk_explained(root.parent):  # before the hidden folder gives its space back
            write(hidden)
            published = publish_checkpoint(hidden, root, step)
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise
    prune_checkpoints(root, keep_last, keep)
    return published


def publish_checkpoint(written: Path, root: Path, step: int) -> Path:
    """Flush a complete folder to the disk and rename it to `root/step-N`, replacing an older one."""
    flush_tree(written)
    final = root / f"step-{step}"
    _replace_folder(written, final)
    return final


def prune_checkpoints(root: Path, keep_last: int, keep: Collection[int] = ()) -> None:
    """Delete the oldest checkpoints, but not those to `keep`, and whatever a killed process left half-written."""
    for step in set(checkpoint_steps(root)[:-keep_last]) - set(keep):
        (root / f"step-{step}").rename(root / f".writing-deleted-{step}")  # half of a checkpoint never bears its name
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
    """fsync every file and folder below, and the folder itself."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        else:
            flush_folder(path)
    flush_folder(folder)


def flush_folder(folder: Path) -> None:
    """fsync a folder's own entries (names), so that a rename survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text_atomically(path: Path, text: str, *, private: bool = False) -> None:
    """Replace a file's whole content, or leave it as it was.

    Args:
        private: only the owner of the file can read it.

    Raises:
        WorkbenchError: no file can be written there.
    """
    make_folder(path.parent)
    hidden = path.with_name(f".{path.name}.writing")
    try:
        with refusal_explained(path):
            hidden.unlink(missing_ok=True)  # of a killed process, perhaps with another mode
            with open(hidden, "w", encoding="utf-8", opener=_private if private else None) as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            hidden.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            hidden.unlink()
        raise
    flush_folder(path.parent)


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)


def make_folder(path: Path) -> None:
    """Make a folder and those that it stands in, where they are missing.

    Raises:
        WorkbenchError: it cannot be made.
    """
    with refusal_explained(path):
        path.mkdir(parents=True, exist_ok=True)


REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)
"""What the system says of a place where nothing may be written, or nothing of that kind."""


@contextlib.contextmanager
def refusal_explained(path: Path) -> Iterator[None]:
    """Turn the system's refusal to write at a place that somebody chose into one clear error."""
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        raise WorkbenchError(
            path,
            f"cannot be written: {error.strerror}: {error.filename}",
            expected="a name in a folder where this account may write",
            remedy="give another place",
        ) from error


def publish_folder(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a hidden folder, flush it, and put it in the place of `path`."""
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
    """Rename a complete folder to `path`; what stood there is renamed away first and then deleted."""
    old = path.with_name(f".writing-replaced-{path.name}")
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        path.rename(old)
    written.rename(path)
    flush_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)


SPACE_LEFT = 1 << 20
"""Bytes: with less free space than this, a failed write is put down to a full disk."""


@contextlib.contextmanager
def full_disk_explained(folder: Path) -> Iterator[None]:
    """Turn a write that failed for want of space into one clear error, whatever library it came from.

    torch and safetensors report a full disk as a RuntimeError or an error of their own, without its errno.
    """
    try:
        yield
    except WorkbenchError:
        raise
    except Exception as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        place = next(p for p in (folder, *folder.absolute().parents) if p.exists())
        if not full and "No space left" not in str(error) and shutil.disk_usage(place).free > SPACE_LEFT:
            raise
        steps = checkpoint_steps(folder / "checkpoints")
        last = f"step-{steps[-1]}" if steps else "none yet"
        raise WorkbenchError(
            folder,
            "the disk is full, this save was given up",
            expected=f"space for a checkpoint; the last complete one, {last}, is untouched",
            remedy="free some space, then start the same command with --resume",
        ) from error
