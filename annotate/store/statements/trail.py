"""Settings of the store and its audit trail, and the base class of all statements."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from annotate.store.schema import event, meta

CHUNK = 500
"""Values in one IN (...)."""


def columns_of(fields: Sequence[str], table: sa.Table, others: Mapping[str, Any]) -> list[Any]:
    """The columns of a row's fields: from `others` if it has the name, else from the table."""
    return [others[name] if name in others else table.c[name] for name in fields]


_REASONS = "reasons"
_INSERT_EVENT = sa.insert(event).inline()
_SETTING = sa.select(meta.c.value).where(meta.c.key == sa.bindparam("name"))


class Statements:
    """A connection between BEGIN and COMMIT."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._locks_rows = connection.dialect.name == "postgresql"
        """Whether there are concurrent writers: SQLite has one writer, and needs no row locks."""
        prepares = connection.dialect.driver == "pg8000"
        self._preparing: Any = connection.connection.dbapi_connection if prepares else None

    def _mapping(self, statement: Any, values: Mapping[str, Any]) -> Mapping[str, Any] | None:
        row = self._connection.execute(statement, values).first()
        return None if row is None else dict(row._mapping)

    def _one(self, statement: Any, values: Mapping[str, Any]) -> Any:
        return self._connection.execute(statement, values).first()

    def _later(self, statement: Any, values: Mapping[str, Any]) -> None:
        """Execute a statement whose result nobody needs: a server gets it together with the next one.

        If it fails, the next statement or the end of the transaction raises its error.
        """
        if self._preparing is None:
            self._connection.execute(statement, values)
            return
        self._preparing.deferred = True
        try:
            self._connection.execute(statement, values)
        finally:
            self._preparing.deferred = False

    def _count(self, statement: Any, values: Mapping[str, Any]) -> int:
        return int(self._connection.execute(statement, values).scalar_one())


class Trail(Statements):
    """The tables `meta` and `event`."""

    def setting(self, key: str) -> str | None:
        """A value of the `meta` table."""
        return self._connection.execute(_SETTING, {"name": key}).scalar()

    def put_setting(self, key: str, value: str) -> None:
        """Set a value of the `meta` table, whether or not there was one."""
        changed = self._connection.execute(sa.update(meta).where(meta.c.key == key).values(value=value))
        if changed.rowcount == 0:
            self._connection.execute(sa.insert(meta), {"key": key, "value": value})

    def offered_reasons(self) -> list[str]:
        """Every reason that a page of this store has offered, in order of their first appearance."""
        return list(json.loads(self.setting(_REASONS) or "[]"))

    def offer_reasons(self, reasons: Sequence[str]) -> None:
        """Add to the offered reasons. None is ever removed: an answer may arrive after the page has changed."""
        known = self.offered_reasons()
        new = [reason for reason in reasons if reason not in known]
        if new:
            self.put_setting(_REASONS, json.dumps(known + new, ensure_ascii=False))

    def add_event(self, kind: str, at: float, annotator_id: int | None = None, **detail: Any) -> None:
        """Append to the audit trail."""
        text = json.dumps(detail, ensure_ascii=False, sort_keys=True)
        values = {"at": at, "annotator": annotator_id, "kind": kind, "detail": text}
        self._later(_INSERT_EVENT, values)

    def events(self) -> list[dict[str, Any]]:
        """The audit trail, oldest first."""
        rows = self._connection.execute(sa.select(event).order_by(event.c.id)).mappings()
        return [{**row, "detail": json.loads(row["detail"])} for row in rows]

    def begin_loading(self) -> None:
        """Make other processes wait with loading items until this transaction ends."""
        if self._locks_rows:
            self._connection.execute(sa.text("SELECT pg_advisory_xact_lock(7140001)"))

    def update_statistics(self) -> None:
        """Of a server, which plans with them: by itself it would do so minutes after this transaction."""
        if self._locks_rows:
            self._connection.execute(sa.text("ANALYZE item, response"))
