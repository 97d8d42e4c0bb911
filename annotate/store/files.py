"""The files of an SQLite store: readable by their owner alone; consistent copies; a backup that replaces the store.

A store holds the key that signs logins: whoever reads it can be an administrator.
"""

import logging
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from annotate.store.schema import SCHEMA_VERSION
from workbench.run.checkpoints import flush_folder, refusal_explained
from workbench.run.errors import WorkbenchError

_log = logging.getLogger(__name__)
PRIVATE = 0o600
BESIDE = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a store; SQLite gives these files the mode of the store itself."""
_OLDER, _KEPT = ".version-", ".before-restore-"
"""How the names of copies beside a store go on: before an upgrade, before a restore."""
_NEEDED = {"meta", "annotator", "item", "response", "assignment", "judgement", "event"}
"""Tables of a label store of any version."""


def make_private_folder(folder: Path) -> None:
    """Make a missing folder for its owner alone (0700); one that is there keeps its mode.

    Raises:
        WorkbenchError: it cannot be made.
    """
    with refusal_explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            if not folder.is_dir():
                raise


def make_private_file(path: Path) -> None:
    """Make an empty file that its owner alone can read, or leave the one that is there.

    Raises:
        WorkbenchError: nothing can be written there.
    """
    with refusal_explained(path):
        _create(path)


def _create(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, PRIVATE))


def tighten(path: Path) -> None:
    """Take other users' access to a store, to SQLite's files and to copies beside it, and say so."""
    copies = [
        entry for entry in path.parent.iterdir() if entry.name.startswith((path.name + _OLDER, path.name + _KEPT))
    ]
    for file in (path, *(path.with_name(path.name + end) for end in BESIDE), *copies):
        try:
            mode = file.stat().st_mode & 0o777
            if mode & 0o077:
                file.chmod(mode & 0o700)
                _log.warning("%s: other users could read or change it (mode %03o); now only its owner can", file, mode)
        except FileNotFoundError:
            continue  # SQLite removes its files when the last connection closes
        except PermissionError:
            _log.warning(
                "%s: other users can read it (mode %03o), and whoever reads it can log in as anybody. "
                "Its owner can mend that: chmod 600 %s",
                file,
                mode,
                file,
            )


def copy_sqlite(path: Path, target: Path) -> None:
    """A consistent copy of an SQLite store, also while others write to it: whole under its name, or not there.

    Raises:
        WorkbenchError: nothing can be written at `target`.
    """
    partial = target.with_name(target.name + ".partial")
    with refusal_explained(target):  # SQLite's own error would name neither the file nor the reason
        partial.unlink(missing_ok=True)
        _create(partial)
    try:
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(partial)) as copy:
            source.backup(copy)
        flush_file(partial)
        partial.replace(target)
        flush_folder(target.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def backup_beside(path: Path, version: int) -> Path:
    """Copy an SQLite store as it is now to a file beside it, whose name says its version."""
    target = _free_name(path, f"{_OLDER}{version}")
    copy_sqlite(path, target)
    return target


def restore(path: Path, backup: Path) -> Path | None:
    """Put a backup in the place of the store; returns where the store that was there is kept (None: there was none).

    A `cp` in its place would be wrong: SQLite replays the log of the old store (`-wal`) into the copy. Logins end,
    because those that ended after the backup would begin again.

    Raises:
        WorkbenchError: no sound store of this version or an older one in `backup`, or the store is in use.
    """
    if not backup.is_file():
        raise WorkbenchError(backup, "no such file", expected="a file that `annotate backup` wrote")
    if path.exists() and backup.samefile(path):
        raise WorkbenchError(backup, "is the store itself", expected="a backup of it")
    make_private_folder(path.parent)
    staged = path.with_name(path.name + ".restoring")
    for leftover in (staged, *(staged.with_name(staged.name + end) for end in BESIDE)):
        leftover.unlink(missing_ok=True)
    make_private_file(staged)
    try:
        _stage(backup, staged)
        with refusal_explained(path):
            kept = _replace(path, staged)
    finally:
        staged.unlink(missing_ok=True)
    tighten(path)
    flush_folder(path.parent)
    return kept


def _stage(backup: Path, staged: Path) -> None:
    """Copy a backup to `staged`, checked, with a new key for logins."""
    # Without a log of its own a backup is read as it stands, also from a folder where nothing can be written.
    log = backup.with_name(backup.name + "-wal")
    alone = not log.exists() or log.stat().st_size == 0
    address = backup.absolute().as_uri() + ("?mode=ro&immutable=1" if alone else "?mode=rw")
    try:
        with closing(sqlite3.connect(address, uri=True)) as source, closing(sqlite3.connect(staged)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
            _check(backup, copy)
            with copy:
                copy.execute("UPDATE meta SET value = hex(randomblob(32)) WHERE key = 'cookie_key'")
                copy.execute(
                    "INSERT INTO event (at, kind, detail) VALUES (?, 'restored', json_object('backup', ?))",
                    (time.time(), str(backup)),
                )
    except sqlite3.DatabaseError as error:
        raise _bad(backup, f"cannot be read as a label store: {error}") from None
    flush_file(staged)


def _check(backup: Path, copy: sqlite3.Connection) -> None:
    problems = [row[0] for row in copy.execute("PRAGMA integrity_check(3)") if row[0] != "ok"]
    problems += [f"table {row[0]}, row {row[1]} refers to nothing" for row in copy.execute("PRAGMA foreign_key_check")]
    if problems:
        raise _bad(backup, f"is damaged: {'; '.join(problems[:3])}")
    tables = {row[0] for row in copy.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables >= _NEEDED:
        raise _bad(backup, "is an SQLite file, but not a label store")
    found = copy.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
    if found is None or not str(found[0]).isdigit():
        raise _bad(backup, "is a label store without a schema version")
    if int(found[0]) > SCHEMA_VERSION:
        raise WorkbenchError(
            backup,
            f"label store of schema version {found[0]}, which is newer than this program",
            expected=f"version {SCHEMA_VERSION} or older",
            remedy="restore it with the version of this program that made it; the present store is as it was",
        )


def _bad(backup: Path, problem: str) -> WorkbenchError:
    return WorkbenchError(
        backup,
        problem,
        expected="a file that `annotate backup` wrote, or a copy that `upgrade` put beside the store",
        remedy="take another backup; the present store is as it was",
    )


def _replace(path: Path, staged: Path) -> Path | None:
    """Give the store the content of `staged`, after a copy of what it held."""
    if not path.exists():
        for end in BESIDE:  # a log without its store would be replayed into the next store of this name
            path.with_name(path.name + end).unlink(missing_ok=True)
        staged.replace(path)
        return None
    kept = _free_name(path, _KEPT + time.strftime("%Y%m%dT%H%M%S"))
    with closing(sqlite3.connect(path, timeout=1, isolation_level=None)) as present:
        try:
            # Leaving WAL brings the log into the store and removes it, and fails while anybody has the store open.
            present.execute("PRAGMA journal_mode=DELETE").fetchone()
            present.execute("PRAGMA schema_version").fetchone()
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise _in_use(path) from None
            return _move_aside(path, staged, kept)
        except sqlite3.DatabaseError:
            return _move_aside(path, staged, kept)
        copy_sqlite(path, kept)
        try:
            # Into the same file, as one transaction: a program that opens it meanwhile waits and sees the new content.
            with closing(sqlite3.connect(staged)) as source:
                source.backup(present)
        except sqlite3.OperationalError as error:
            kept.unlink()
            if "locked" in str(error):
                raise _in_use(path) from None
            raise
    return kept


def _move_aside(path: Path, staged: Path, kept: Path) -> Path:
    """Replace a store that SQLite cannot read: it and its log are kept under another name."""
    for end in BESIDE:
        beside = path.with_name(path.name + end)
        if beside.exists():
            beside.rename(kept.with_name(kept.name + end))
    os.link(path, kept)
    staged.replace(path)
    kept.chmod(PRIVATE)
    return kept


def _in_use(path: Path) -> WorkbenchError:
    return WorkbenchError(
        path,
        "is open in another program",
        expected="no server, no `pairs --follow` and no other command at work on this store",
        remedy="stop `python -m annotate serve` and the others, then start the same command again",
    )


def _free_name(path: Path, end: str) -> Path:
    number, target = 0, path.with_name(path.name + end)
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}{end}.{number}")
    return target


def flush_file(path: Path) -> None:
    """Have the system write a file to the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
