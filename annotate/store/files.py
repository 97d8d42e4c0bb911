"""The files of an SQLite store: readable only by their owner; consistent copies; restoring a backup.

A store contains the key that signs logins: whoever can read it can log in as an administrator.
"""

import logging
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from annotate.store.failures import failures_explained
from annotate.store.schema import SCHEMA_VERSION
from annotate.store.tombstones import apply_tombstones, has_tombstones
from workbench.run.checkpoints import flush_folder, refusal_explained
from workbench.run.errors import WorkbenchError

_log = logging.getLogger(__name__)
PRIVATE = 0o600
BESIDE = ("-wal", "-shm", "-journal")
"""Files that SQLite keeps next to a store, with the same file mode."""
_OLDER, _KEPT = ".version-", ".before-restore-"
"""Suffixes of the copies next to a store: made before an upgrade, and before a restore."""
_NEEDED = {"meta", "annotator", "item", "response", "assignment", "judgement", "event"}
"""Tables of a label store of any version."""


def make_private_folder(folder: Path) -> None:
    """Create a missing folder for its owner only (0700); an existing one keeps its mode.

    Raises:
        WorkbenchError: it cannot be created.
    """
    with refusal_explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            if not folder.is_dir():
                raise


def make_private_file(path: Path) -> None:
    """Create an empty file that only its owner can read; an existing one is left as it is.

    Raises:
        WorkbenchError: nothing can be written there.
    """
    with refusal_explained(path):
        _create(path)


def _create(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, PRIVATE))


def tighten(path: Path) -> None:
    """Remove other users' access to a store, SQLite's files and the copies next to it, with a warning."""
    for file in files_of(path):
        try:
            mode = file.stat().st_mode & 0o777
            if mode & 0o077:
                file.chmod(mode & 0o700)
                _log.warning("%s: other users could read or change it (mode %03o); now only its owner can", file, mode)
        except FileNotFoundError:
            continue  # SQLite deletes its files when the last connection closes
        except PermissionError:
            _log.warning(
                "%s: other users can read it (mode %03o), and whoever reads it can log in as anybody. "
                "Its owner can fix that: chmod 600 %s",
                file,
                mode,
                file,
            )


def files_of(path: Path) -> list[Path]:
    """A store, the files that SQLite may keep next to it, and the copies next to it."""
    return [path, *(path.with_name(path.name + end) for end in BESIDE), *copies_beside(path)]


def copies_beside(path: Path) -> list[Path]:
    """The copies next to a store that upgrades and restores have made."""
    entries = path.parent.iterdir() if path.parent.is_dir() else ()
    return sorted(entry for entry in entries if entry.name.startswith((path.name + _OLDER, path.name + _KEPT)))


def empty_log(path: Path) -> None:
    """Move SQLite's log into the store, so that no deleted row is left in it; readers may delay that."""
    with closing(sqlite3.connect(path, timeout=1)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def copy_sqlite(path: Path, target: Path) -> None:
    """A consistent copy of an SQLite store, also while others write to it; `target` is complete or does not exist.

    Raises:
        WorkbenchError: nothing can be written at `target`.
    """
    partial = target.with_name(target.name + ".partial")
    with refusal_explained(target):  # SQLite's own error would name neither the file nor the reason
        partial.unlink(missing_ok=True)
        _create(partial)
    try:
        with (
            failures_explained(target),
            closing(sqlite3.connect(path)) as source,
            closing(sqlite3.connect(partial)) as copy,
        ):
            source.backup(copy)
        flush_file(partial)
        partial.replace(target)
        flush_folder(target.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def backup_beside(path: Path, version: int) -> Path:
    """Copy an SQLite store to a file next to it, whose name has the version."""
    target = _free_name(path, f"{_OLDER}{version}")
    copy_sqlite(path, target)
    return target


def restore(path: Path, backup: Path) -> Path | None:
    """Replace the store with a backup; returns where the previous store is kept (None: there was none).

    Copying the file with `cp` would corrupt it: SQLite replays the log of the old store (`-wal`) into the copy. All
    logins end, because logins that ended after the backup would become valid again. What was forgotten in this store
    is deleted from the restored one.

    Raises:
        WorkbenchError: `backup` is not an intact store of this version or an older one, or the store is in use.
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
        _stage(backup, staged, path)
        with refusal_explained(path):
            kept = _replace(path, staged)
    finally:
        staged.unlink(missing_ok=True)
    tighten(path)
    flush_folder(path.parent)
    return kept


def _stage(backup: Path, staged: Path, path: Path) -> None:
    """Copy a backup to `staged`, check it, give it a new key for logins, and delete what was forgotten at `path`."""
    # Without a log, a backup can be opened as immutable, also in a folder that cannot be written to.
    log = backup.with_name(backup.name + "-wal")
    alone = not log.exists() or log.stat().st_size == 0
    address = backup.absolute().as_uri() + ("?mode=ro&immutable=1" if alone else "?mode=rw")
    try:
        with closing(sqlite3.connect(address, uri=True)) as source, closing(sqlite3.connect(staged)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
            version = _check(backup, copy)
            if version < SCHEMA_VERSION and has_tombstones(path):
                raise _too_old_to_forget(backup, version)
            copy.execute("PRAGMA secure_delete=ON")
            with copy:
                apply_tombstones(path, copy.execute)
                copy.execute("UPDATE meta SET value = hex(randomblob(32)) WHERE key = 'cookie_key'")
                copy.execute(
                    "INSERT INTO event (at, kind, detail) VALUES (?, 'restored', json_object('backup', ?))",
                    (time.time(), str(backup)),
                )
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
            raise  # not of the backup
        raise _bad(backup, f"cannot be read as a label store: {error}") from None
    flush_file(staged)


def _check(backup: Path, copy: sqlite3.Connection) -> int:
    """The schema version of an intact store."""
    problems = [row[0] for row in copy.execute("PRAGMA integrity_check(3)") if row[0] != "ok"]
    problems += [f"table {row[0]}, row {row[1]} refers to no row" for row in copy.execute("PRAGMA foreign_key_check")]
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
            remedy="restore it with the version of this program that made it; the store is unchanged",
        )
    return int(found[0])


def _too_old_to_forget(backup: Path, version: int) -> WorkbenchError:
    return WorkbenchError(
        backup,
        f"label store of schema version {version}; what was forgotten since can be deleted from version "
        f"{SCHEMA_VERSION} only",
        expected=f"a backup of version {SCHEMA_VERSION}",
        remedy=f"upgrade the backup first: python -m annotate upgrade CONFIG.yaml store.url={backup}",
    )


def _bad(backup: Path, problem: str) -> WorkbenchError:
    return WorkbenchError(
        backup,
        problem,
        expected="a file that `annotate backup` wrote, or a copy that `upgrade` made next to the store",
        remedy="use another backup; the store is unchanged",
    )


def _replace(path: Path, staged: Path) -> Path | None:
    """Replace the content of the store with `staged`, after copying the store."""
    if not path.exists():
        for end in BESIDE:  # SQLite would replay a leftover log into the new store
            path.with_name(path.name + end).unlink(missing_ok=True)
        staged.replace(path)
        return None
    kept = _free_name(path, _KEPT + time.strftime("%Y%m%dT%H%M%S"))
    with closing(sqlite3.connect(path, timeout=1, isolation_level=None)) as present:
        try:
            # Leaving WAL mode merges the log into the store, and fails while any other connection is open.
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
            # Into the same file, in one transaction: a program that opens it now waits, then sees the new content.
            with closing(sqlite3.connect(staged)) as source:
                source.backup(present)
        except sqlite3.OperationalError as error:
            kept.unlink()
            if "locked" in str(error):
                raise _in_use(path) from None
            raise
    return kept


def _move_aside(path: Path, staged: Path, kept: Path) -> Path:
    """Replace a store that SQLite cannot read; keep it and its log under another name."""
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
        expected="no server, no `pairs --follow` and no other command using this store",
        remedy="stop `python -m annotate serve` and the others, then run the same command again",
    )


def _free_name(path: Path, end: str) -> Path:
    number, target = 0, path.with_name(path.name + end)
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}{end}.{number}")
    return target


def flush_file(path: Path) -> None:
    """Flush a file to disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
