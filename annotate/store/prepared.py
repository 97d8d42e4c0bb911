"""pg8000 with statements prepared once per connection: one round trip per statement, where the driver makes three.

Statements whose result nobody needs, BEGIN, and the end of a transaction that only reads cost no round trip: their
replies are read together with the next one.

Knows the driver, not the tables. Import it only if pg8000 is installed.
"""

from collections import OrderedDict, deque
from functools import lru_cache
from typing import Any

from pg8000.converters import make_params
from pg8000.core import IDLE, IN_TRANSACTION, Context
from pg8000.dbapi import Connection, Cursor, convert_paramstyle
from pg8000.exceptions import Error, InterfaceError

MOST_PREPARED = 128
"""Prepared statements per connection; above that, the least recently used one is closed."""


@lru_cache(maxsize=256)
def numbered(operation: str) -> str:
    """A statement with `$1`, `$2` … instead of `%s`, cached: the driver parses every character each time."""
    return str(convert_paramstyle("format", operation, ())[0])


class PreparingConnection(Connection):
    """A connection that keeps prepared statements, and reads the replies that nobody waits for with the next one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._prepared: OrderedDict[str, tuple[Any, ...]] = OrderedDict()
        self._owed: deque[Context] = deque()
        self._waits = True
        self.read_only = False
        """Whether the next transaction only reads: one consistent state of the database."""
        self.deferred = False
        """Whether statements are sent without waiting for their results; an error is raised by the next one."""
        super().__init__(*args, **kwargs)

    def cursor(self) -> "PreparingCursor":
        """A cursor whose statements are prepared."""
        return PreparingCursor(self)

    def commit(self) -> None:
        """End the transaction: in one round trip, or, if it only read, with the next transaction's first."""
        self._waits = not self.read_only
        try:
            self.execute_simple("commit")
        finally:
            self._waits = True
        if self.read_only:
            self._transaction_status = IDLE  # as the reply will say

    def rollback(self) -> None:
        """Undo the transaction, in one round trip."""
        if self._in_transaction:
            self._read_owed()  # errors of statements that are undone do not matter
            self.execute_simple("rollback")

    def handle_messages(self, context: Context) -> None:
        """Read a reply, after those that are owed; the first error among them is raised.

        A closed connection raises the driver's own error, so that the pool drops its connections.
        """
        self._owed.append(context)
        if self._waits and (error := self._read_owed()):
            raise error

    def _read_owed(self) -> Error | None:
        """Read all replies that are owed; returns the first error among them."""
        first = None
        while self._owed:
            reply = self._owed.popleft()
            try:
                super().handle_messages(reply)
            except Error as error:
                if error is not reply.error:  # an error of the connection
                    self._owed.clear()
                    raise
                first = first or error
            except OSError as error:
                self._owed.clear()
                raise InterfaceError("network error") from error
        return first

    def begin(self) -> None:
        """Begin a transaction if there is none, without waiting for the reply."""
        if not self._in_transaction:
            self.send_QUERY(_BEGIN[self.read_only])
            self._owed.append(Context(_BEGIN[self.read_only]))
            self._transaction_status = IN_TRANSACTION  # as the reply will say

    def run(self, statement: str, values: Any) -> Context:
        """Run a statement with its values."""
        prepared = self._prepared.get(statement) or self._prepare(statement)
        self._prepared.move_to_end(statement)
        parameters = make_params(self.py_types, values)
        self._waits = not self.deferred
        try:
            return self.execute_named(prepared[0], parameters, *prepared[1:], statement)
        finally:
            self._waits = True

    def _prepare(self, statement: str) -> tuple[Any, ...]:
        while len(self._prepared) >= MOST_PREPARED:
            _, (name, *_columns) = self._prepared.popitem(last=False)
            self.close_prepared_statement(name)
        self._prepared[statement] = prepared = self.prepare_statement(statement, ())
        return prepared


_BEGIN = {False: "begin", True: "begin isolation level repeatable read read only"}


class PreparingCursor(Cursor):
    """The cursor of such a connection."""

    def execute(self, operation: str, args: Any = (), stream: Any = None) -> None:
        """Run a statement; those without values, and COPY, are left to the driver."""
        if not self._c.autocommit:
            self._c.begin()
        if not args or stream is not None or self._c.autocommit:
            super().execute(operation, args, stream)
            return
        self._context = self._c.run(numbered(operation), args)
        self._row_iter = None if self._context.rows is None else iter(self._context.rows)
