"""Copy a whole label store into another database: every table, in one transaction, or nothing."""

from pathlib import Path

import sqlalchemy as sa

from annotate.store.address import sqlite_path
from annotate.store.database import Store
from annotate.store.files import BESIDE, flush_file, make_private_folder
from annotate.store.schema import metadata
from workbench.run.errors import WorkbenchError

_ROWS = 500
"""Rows per batch."""


def copy_store(source: Store, target_url: str) -> dict[str, int]:
    """Copy all tables to an empty database or a new file; returns the number of rows per table.

    Raises:
        WorkbenchError: the target already holds a store or rejects a row, or the source changed during the copy.
    """
    path = sqlite_path(target_url)
    if path is None:
        target = Store.connect(target_url)
        try:
            return _fill(source, target)
        finally:
            target.close()
    if path.exists():
        raise WorkbenchError(path, "already exists", expected="an unused name", remedy="choose another name")
    make_private_folder(path.parent)
    staged = path.with_name(path.name + ".copying")
    _delete(staged)
    target = Store.connect(staged)
    try:
        counts = _fill(source, target)
        target.close()  # SQLite merges its log into the file
        flush_file(staged)
        staged.replace(path)
    finally:
        target.close()
        _delete(staged)
    return counts


def _delete(staged: Path) -> None:
    for file in (staged, *(staged.with_name(staged.name + end) for end in BESIDE)):
        file.unlink(missing_ok=True)


def _fill(source: Store, target: Store) -> dict[str, int]:
    counts: dict[str, int] = {}
    table = metadata.sorted_tables[0]
    try:
        with source.connection(write=False) as taken, target.connection(write=True) as given:
            _refuse_used(given, target.place)
            metadata.create_all(given)
            for table in metadata.sorted_tables:
                counts[table.name] = _copy_table(taken, given, table)
            _set_sequences(given)
            with source.connection(write=False) as later:
                for name, connection in ((target.place, given), (source.place, later)):
                    _compare(name, counts, connection)
    except sa.exc.DBAPIError as error:
        said = error.orig.args[0] if error.orig is not None and error.orig.args else error
        raise WorkbenchError(
            target.place,
            f"cannot take the table {table.name!r}: {said.get('M', said) if isinstance(said, dict) else said}",
            expected="a database that responds and can store these rows; nothing was copied",
        ) from None
    return counts


def _refuse_used(given: sa.Connection, name: str) -> None:
    found = sorted(set(sa.inspect(given).get_table_names()) & set(metadata.tables))
    if found:
        raise WorkbenchError(
            name,
            f"already holds tables of a label store ({', '.join(found[:3])} …)",
            expected="an empty database: a copy is never mixed with other labels",
            remedy="createdb NAME, and copy into that database",
        )


def _copy_table(taken: sa.Connection, given: sa.Connection, table: sa.Table) -> int:
    # In key order, so that a repeat follows the item it refers to.
    rows = taken.execution_options(yield_per=_ROWS).execute(sa.select(table).order_by(*table.primary_key.columns))
    count = 0
    for part in rows.mappings().partitions():
        given.execute(sa.insert(table), [dict(row) for row in part])
        count += len(part)
    return count


def _set_sequences(given: sa.Connection) -> None:
    """Make PostgreSQL number new rows after the copied ones; SQLite does so by itself."""
    if given.dialect.name != "postgresql":
        return
    for table in metadata.sorted_tables:
        if "id" in table.c:
            last = f"(SELECT max(id) FROM {table.name})"
            given.exec_driver_sql(
                f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), coalesce({last}, 1), {last} IS NOT NULL)"
            )


def _compare(name: str, counts: dict[str, int], connection: sa.Connection) -> None:
    for table in metadata.sorted_tables:
        found = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
        if found != counts[table.name]:
            raise WorkbenchError(
                name,
                f"has {found:,} rows in {table.name!r}, but {counts[table.name]:,} were copied",
                expected="a store that nobody writes to during the copy; nothing was copied",
                remedy="stop the server and other commands on this store, then copy again",
            )
