"""The label store: opening it, and its transactions. SQLite by default; another database by URL.

Every write runs under BEGIN IMMEDIATE with `synchronous=FULL`: what was acknowledged survives a power cut. What only
SQLite needs stands in `_sqlite_engine`, nowhere else.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from annotate.schema import SCHEMA_VERSION, metadata
from annotate.statements import Transaction
from workbench.run.errors import WorkbenchError

_BUSY_SECONDS = 30.0


class Store:
    """A database of items, annotators and judgements."""

    def __init__(self, engine: sa.Engine, place: str) -> None:
        self._engine, self.place = engine, place

    @classmethod
    def open(cls, url: str | Path, *, durable: bool = True) -> "Store":
        """Open a store, creating it where there is none; `url` is a file or a database URL.

        Without `durable`, a power cut may take the last labels back (a crash of the program may not): right for
        simulated ones, which can be made again.

        Raises:
            WorkbenchError: not a database, or one of another version.
        """
        text = str(url)
        if "://" in text and not text.startswith("sqlite:///"):
            engine, place = sa.create_engine(text), sa.engine.make_url(text).render_as_string()
        else:
            path = Path(text.removeprefix("sqlite:///"))
            engine, place = _sqlite_engine(path, durable), str(path)
        store = cls(engine, place)
        try:
            store._prepare()
        except sa.exc.DatabaseError as error:
            engine.dispose()
            raise WorkbenchError(
                place,
                f"cannot be used as a label store: {error.orig}",
                expected="an SQLite file that this program made, or a name that is free",
                remedy="give another store.url",
            ) from None
        return store

    def _prepare(self) -> None:
        with self._begin(write=True) as connection:
            metadata.create_all(connection)
            transaction = Transaction(connection)
            version = transaction.setting("schema_version")
            if version is None:
                transaction.put_setting("schema_version", str(SCHEMA_VERSION))
                transaction.put_setting("cookie_key", secrets.token_urlsafe(32))
            elif version != str(SCHEMA_VERSION):
                raise WorkbenchError(
                    self.place,
                    f"label store of schema version {version}",
                    expected=f"version {SCHEMA_VERSION}",
                    remedy="open it with the version of this program that made it, and export",
                )

    @contextmanager
    def _begin(self, *, write: bool) -> Iterator[sa.Connection]:
        with self._engine.connect() as connection:
            connection = connection.execution_options(immediate=write)
            with connection.begin():
                yield connection

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """A transaction that holds the write lock from its start; rolled back when an error leaves it."""
        with self._begin(write=True) as connection:
            yield Transaction(connection)

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """A transaction that sees one state of the store."""
        with self._begin(write=False) as connection:
            yield Transaction(connection)

    def close(self) -> None:
        """Give all connections back."""
        self._engine.dispose()


def _sqlite_engine(path: Path, durable: bool) -> sa.Engine:
    if path.is_dir():
        raise WorkbenchError(path, "is a folder", expected="a file for the label store")
    path.parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        connect_args={"timeout": _BUSY_SECONDS},
        pool_size=16,
        max_overflow=48,
    )

    @sa.event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver would begin transactions of its own
        synchronous = "FULL" if durable else "NORMAL"
        for pragma in ("journal_mode=WAL", f"synchronous={synchronous}", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def _start(connection: sa.Connection) -> None:
        immediate = connection.get_execution_options().get("immediate")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine
