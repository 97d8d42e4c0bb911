"""Failures of a label store that are no defect: a full or read-only disk, a locked file, a server that is gone."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from workbench.run.errors import WorkbenchError

_WRITABLE = "write access to the file and its folder"
_UNLOCKED = "no other program that keeps the file locked"
_SQLITE = {
    sqlite3.SQLITE_FULL: "free space on the disk of the store",
    sqlite3.SQLITE_IOERR: "a disk that works and has free space",
    sqlite3.SQLITE_READONLY: _WRITABLE,
    sqlite3.SQLITE_CANTOPEN: _WRITABLE,
    sqlite3.SQLITE_PERM: _WRITABLE,
    sqlite3.SQLITE_BUSY: _UNLOCKED,
    sqlite3.SQLITE_LOCKED: _UNLOCKED,
    sqlite3.SQLITE_PROTOCOL: _UNLOCKED,
}
"""Result codes of SQLite → what it needs."""
_SERVER = ("08", "25006", "53", "57", "58")
"""Beginnings of SQLSTATEs: connection, read-only, resources (disk, connections), shutdown, system error.

Source: PostgreSQL documentation, appendix A.
"""


@contextmanager
def failures_explained(place: object) -> Iterator[None]:
    """Turn such a failure in the body into a WorkbenchError; `place`: the store, without a password."""
    try:
        yield
    except (sa.exc.DBAPIError, sqlite3.Error) as error:
        explained = store_failure(error, place)
        if explained is None:
            raise
        raise explained from error


def store_failure(error: sa.exc.DBAPIError | sqlite3.Error, place: object) -> WorkbenchError | None:
    """The error for a failure that the user can mend; None for any other."""
    original = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    told = original.args[0] if original is not None and original.args else None
    fields = told if isinstance(told, dict) else {}  # as pg8000 gives PostgreSQL's messages
    if isinstance(original, sqlite3.Error):
        expected = _SQLITE.get(getattr(original, "sqlite_errorcode", 0) & 0xFF)  # the rest of the code is details
    else:
        gone = isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError)
        mendable = gone or str(fields.get("C")).startswith(_SERVER)
        expected = "a server that responds, has space and takes changes" if mendable else None
    if expected is None:
        return None
    return WorkbenchError(
        place,
        f"the label store cannot be used: {fields.get('M', original)}",
        expected=expected,
        remedy="fix the cause, then start the same command again; what was stored before is kept",
    )
