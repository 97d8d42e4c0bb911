"""The label store: opening it, and its transactions. SQLite by default; another database by URL.

On SQLite every write runs under BEGIN IMMEDIATE with `synchronous=FULL`: an acknowledged write survives a power cut.
PostgreSQL allows concurrent writes; `annotate.store.statements` lock the rows that they depend on.
"""

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NoReturn

import sqlalchemy as sa

from annotate.store.address import sqlite_path, with_password
from annotate.store.failures import store_failure
from annotate.store.files import (
    backup_beside,
    copies_beside,
    copy_sqlite,
    empty_log,
    make_private_file,
    make_private_folder,
    tighten,
)
from annotate.store.names import twins
from annotate.store.schema import SCHEMA_VERSION, meta, metadata, migrate
from annotate.store.statements import Transaction
from annotate.store.tombstones import bury, delete_annotator, delete_item
from workbench.run.errors import WorkbenchError

_BUSY_SECONDS = 30.0
_POOL: dict[str, Any] = {"pool_size": 16, "max_overflow": 48, "pool_use_lifo": True}
"""The connection that was returned last is used next: it has its statements prepared and its pages in memory."""
_TWINS = (
    "the names of the accounts {names} differ only in case. Each can still log in with its exact name, but no further "
    "such name can be added. If they are one person, remove the unused account: annotator CONFIG.yaml remove NAME"
)
Say = Callable[[str], object]


def _nothing(_text: str) -> None:
    """Say nothing."""


class Store:
    """A database of items, annotators and judgements."""

    def __init__(self, engine: sa.Engine, place: str, path: Path | None = None) -> None:
        self._engine, self.place = engine, place
        self.path = path
        """The file of an SQLite store; None for another database."""
        self._one_writer = threading.RLock() if path is not None else nullcontext()

    @classmethod
    def open(cls, url: str | Path, *, durable: bool = True, as_it_is: bool = False, say: Say = _nothing) -> "Store":
        """Open a store, and create it if there is none; `url` is a file or a database URL.

        An older store is upgraded to this version; an SQLite file is copied first.

        Args:
            durable: if false, a power cut may lose the last labels (a crash of the program does not): fine for
                simulated labels, which can be made again.
            say: receives a message about each change to an older store.
            as_it_is: create nothing and upgrade nothing, for commands that only read.

        Raises:
            WorkbenchError: not a label store, a newer one, or with `as_it_is` a missing or an older one.
        """
        if as_it_is and (path := sqlite_path(str(url))) is not None and not path.exists():
            _refuse_missing(str(path))
        store = cls.connect(url, durable=durable)
        try:
            store._prepare(as_it_is, say)
        except sa.exc.DBAPIError as error:
            store.close()
            raise store_failure(error, store.place) or WorkbenchError(
                store.place,
                f"cannot be used as a label store: {error.orig}",
                expected="an SQLite file that this program made, an unused name, or a database that responds",
                remedy="choose another store.url",
            ) from None
        except WorkbenchError:
            store.close()
            raise
        return store

    @classmethod
    def connect(cls, url: str | Path, *, durable: bool = True) -> "Store":
        """A store at an address, without a check of its content: its tables may be missing.

        Raises:
            WorkbenchError: an unknown kind of database, or a path that cannot be a file.
        """
        path = sqlite_path(str(url))
        if path is None:
            return cls(*_server_engine(str(url)))
        engine = _sqlite_engine(path, durable)
        _make_private(path)
        return cls(engine, str(path), path)

    def _prepare(self, as_it_is: bool, say: Say) -> None:
        version = self._version()
        if as_it_is:
            self._refuse_newer(version)
            self._refuse_older(version)
            return
        copy = ""
        if version is not None and version < SCHEMA_VERSION and self.path is not None:
            copy = f"; copy of the previous store: {backup_beside(self.path, version)}"
        with self.connection(write=True) as connection:
            Transaction(connection).begin_loading()
            version = _version_in(connection)
            self._refuse_newer(version)
            if version is None:
                metadata.create_all(connection)
                transaction = Transaction(connection)
                transaction.put_setting("schema_version", str(SCHEMA_VERSION))
                transaction.put_setting("cookie_key", secrets.token_urlsafe(32))
            elif version < SCHEMA_VERSION:
                migrate(connection, version)
                transaction = Transaction(connection)
                transaction.put_setting("schema_version", str(SCHEMA_VERSION))
                transaction.add_event("migrated", time.time(), before=version, after=SCHEMA_VERSION)
        if version is not None and version < SCHEMA_VERSION:
            say(f"{self.place}: upgraded from schema version {version} to {SCHEMA_VERSION}{copy}")
            with self.read() as transaction:
                for names in twins(account.name for account in transaction.annotators()):
                    say(f"{self.place}: {_TWINS.format(names=' and '.join(map(repr, names)))}")

    def _version(self) -> int | None:
        with self.connection(write=False) as connection:
            return _version_in(connection)

    def _refuse_older(self, version: int | None) -> None:
        if version is None:
            _refuse_missing(self.place)
        if version < SCHEMA_VERSION:
            raise WorkbenchError(
                self.place,
                f"label store of schema version {version}, which is older than this program",
                expected=f"version {SCHEMA_VERSION}; this command does not upgrade it",
                remedy="upgrade it (a copy is made first): python -m annotate upgrade CONFIG.yaml",
            )

    def _refuse_newer(self, version: int | None) -> None:
        if version is not None and version > SCHEMA_VERSION:
            raise WorkbenchError(
                self.place,
                f"label store of schema version {version}, which is newer than this program",
                expected=f"version {SCHEMA_VERSION} or older (older stores are upgraded)",
                remedy="update this program, or open the store with the version that made it and export",
            )

    @contextmanager
    def connection(self, *, write: bool) -> Iterator[sa.Connection]:
        """A connection within a transaction, for operations on whole tables; otherwise use `write` or `read`."""
        with self._engine.connect() as connection:
            connection = connection.execution_options(immediate=write)
            with connection.begin():
                yield connection

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """A transaction that holds the write lock from its start; rolled back if an error occurs."""
        # Threads of this process queue here: SQLite polls for its lock, so one of them could starve.
        with self._one_writer, self.connection(write=True) as connection:
            yield Transaction(connection)

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """A transaction that sees one consistent state of the store."""
        with self.connection(write=False) as connection:
            yield Transaction(connection)

    def backup(self, target: Path) -> None:
        """Write a consistent copy to `target`, also while people label.

        Raises:
            WorkbenchError: the target exists, or the store is not an SQLite file.
        """
        if self.path is None:
            raise WorkbenchError(
                self.place,
                "is not an SQLite file",
                expected="a copy by the database's own program",
                remedy=f"pg_dump --format=custom --file={target} DATABASE",
            )
        if target.exists():
            raise WorkbenchError(target, "already exists", remedy="choose another name, or delete it")
        make_private_folder(target.parent)
        copy_sqlite(self.path, target)

    def forget(self, *, annotator: str | None = None, item_id: str | None = None) -> bool:
        """Delete an annotator or an item for good: `restore` deletes it from backups, too. Whether it was there."""
        if self.path is not None:
            bury(self.path, annotator=annotator, item_id=item_id)
        with self._one_writer, self.connection(write=True) as connection:
            if self.path is not None:
                connection.exec_driver_sql("PRAGMA secure_delete=ON")  # overwrites what is deleted

            def run(statement: str, values: Mapping[str, Any]) -> Any:
                return connection.execute(sa.text(statement), values)

            gone = annotator is not None and delete_annotator(run, annotator)
            gone |= item_id is not None and delete_item(run, item_id)
        if self.path is not None:
            empty_log(self.path)
        return gone

    def copies(self) -> list[Path]:
        """Copies that upgrades and restores have left next to an SQLite store."""
        return copies_beside(self.path) if self.path is not None else []

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def _refuse_missing(place: str) -> NoReturn:
    raise WorkbenchError(
        place,
        "no such label store",
        expected="the store.url that `serve`, `load` or `simulate` wrote",
        remedy="label first: python -m annotate serve CONFIG.yaml",
    )


def _version_in(connection: sa.Connection) -> int | None:
    """The schema version of a store; None if there is no store yet."""
    if not sa.inspect(connection).has_table(meta.name):
        return None
    version = Transaction(connection).setting("schema_version")
    return None if version is None else int(version)


def _server_engine(url: str) -> tuple[sa.Engine, str]:
    """Engine and name (without the password) of a database server."""
    try:
        address = sa.engine.make_url(url)
        if address.drivername in ("postgresql", "postgres"):
            address = with_password(address).set(drivername="postgresql+pg8000")
        engine = sa.create_engine(address, **_POOL)
        if engine.driver == "pg8000":
            from annotate.store.prepared import PreparingConnection  # the driver is not always installed

            sa.event.listen(engine, "do_connect", lambda _dialect, _record, _none, how: PreparingConnection(**how))
        sa.event.listen(engine, "begin", _begin_on_server)
        return engine, address.render_as_string()
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ModuleNotFoundError) as error:
        raise WorkbenchError(
            "store.url",
            f"{url.split('@')[-1]!r} cannot be opened: {error}",
            expected="a file (SQLite), or postgresql://USER@HOST/DATABASE",
            remedy="pip install 'alignment-workbench[postgres]'" if isinstance(error, ModuleNotFoundError) else None,
        ) from None


def _begin_on_server(connection: sa.Connection) -> None:
    """A transaction that only reads sees one consistent state."""
    reads = connection.get_execution_options().get("immediate") is False
    if connection.dialect.driver == "pg8000":
        driver: Any = connection.connection.dbapi_connection
        driver.read_only = reads
    elif reads and connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")


def _make_private(path: Path) -> None:
    """Create a missing store file, and let only its owner read it."""
    if not path.exists():
        make_private_folder(path.parent)
        make_private_file(path)
    tighten(path)


def _sqlite_engine(path: Path, durable: bool) -> sa.Engine:
    if path.is_dir():
        raise WorkbenchError(path, "is a folder", expected="a file for the label store")
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        connect_args={"timeout": _BUSY_SECONDS},
        **_POOL,
    )

    @sa.event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # otherwise the driver begins transactions by itself
        synchronous = "FULL" if durable else "NORMAL"
        for pragma in ("journal_mode=WAL", f"synchronous={synchronous}", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def _start(connection: sa.Connection) -> None:
        immediate = connection.get_execution_options().get("immediate")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine
