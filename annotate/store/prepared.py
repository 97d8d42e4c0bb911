"""pg8000 with statements prepared once per connection: one round trip per statement, where the driver makes three.

Knows the driver, not the tables. Import it only if pg8000 is installed.
"""

from collections import OrderedDict
from functools import lru_cache
from typing import Any

from pg8000.converters import make_params
from pg8000.core import Context
from pg8000.dbapi import Connection, Cursor, convert_paramstyle
from pg8000.exceptions import InterfaceError

MOST_PREPARED = 128
"""Prepared statements per connection; above that, the least recently used one is closed."""


@lru_cache(maxsize=256)
def numbered(operation: str) -> str:
    """A statement with `$1`, `$2` … instead of `%s`, cached: the driver parses every character each time."""
    return str(convert_paramstyle("format", operation, ())[0])


class PreparingConnection(Connection):
    """A connection that keeps prepared statements, and sends BEGIN together with a transaction's first statement."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._prepared: OrderedDict[str, tuple[Any, ...]] = OrderedDict()
        super().__init__(*args, **kwargs)

    def cursor(self) -> "PreparingCursor":
        """A cursor whose statements are prepared."""
        return PreparingCursor(self)

    def commit(self) -> None:
        """End the transaction, in one round trip."""
        self.execute_simple("commit")

    def handle_messages(self, context: Context) -> None:
        """Read a reply; a closed connection raises the driver's own error, so that the pool drops its connections."""
        try:
            super().handle_messages(context)
        except OSError as error:
            raise InterfaceError("network error") from error

    def run(self, statement: str, values: Any) -> Context:
        """Run a statement with its values, within a transaction."""
        prepared = self._prepared.get(statement) or self._prepare(statement)
        self._prepared.move_to_end(statement)
        parameters, begins = make_params(self.py_types, values), not self._in_transaction
        if begins:
            self.send_QUERY("begin transaction")  # sent together with the statement
        context = self.execute_named(prepared[0], parameters, *prepared[1:], statement)
        if begins:
            self.handle_messages(context)  # the reply above was to BEGIN
        return context

    def _prepare(self, statement: str) -> tuple[Any, ...]:
        while len(self._prepared) >= MOST_PREPARED:
            _, (name, *_columns) = self._prepared.popitem(last=False)
            self.close_prepared_statement(name)
        self._prepared[statement] = prepared = self.prepare_statement(statement, ())
        return prepared


class PreparingCursor(Cursor):
    """The cursor of such a connection."""

    def execute(self, operation: str, args: Any = (), stream: Any = None) -> None:
        """Run a statement; those without values, and COPY, are left to the driver."""
        if not args or stream is not None or self._c.autocommit:
            super().execute(operation, args, stream)
            return
        self._context = self._c.run(numbered(operation), args)
        self._row_iter = None if self._context.rows is None else iter(self._context.rows)
