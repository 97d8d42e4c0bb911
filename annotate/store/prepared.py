"""pg8000 with statements that are prepared once a connection: one round trip a statement, where the driver makes three.

Knows the driver, not the tables. Import it only where pg8000 is installed.
"""

from collections import OrderedDict
from functools import lru_cache
from typing import Any

from pg8000.converters import make_params
from pg8000.core import Context
from pg8000.dbapi import Connection, Cursor, convert_paramstyle
from pg8000.exceptions import InterfaceError

MOST_PREPARED = 128
"""Statements kept prepared in the server for each connection; beyond that, the one unused for longest is given up."""


@lru_cache(maxsize=256)
def numbered(operation: str) -> str:
    """A statement with `$1`, `$2` … in place of `%s`; the driver's own way goes over every character each time."""
    return str(convert_paramstyle("format", operation, ())[0])


class PreparingConnection(Connection):
    """A connection that keeps its statements prepared, and sends BEGIN along with the first of a transaction."""

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
        """Read a reply; a server that hung up is the driver's own error, by which the pool drops its connections."""
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
            self.send_QUERY("begin transaction")  # it goes out with the statement
        context = self.execute_named(prepared[0], parameters, *prepared[1:], statement)
        if begins:
            self.handle_messages(context)  # the first reply was to BEGIN
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
        """Run a statement; those without values, and copies of tables, go the driver's own way."""
        if not args or stream is not None or self._c.autocommit:
            super().execute(operation, args, stream)
            return
        self._context = self._c.run(numbered(operation), args)
        self._row_iter = None if self._context.rows is None else iter(self._context.rows)
