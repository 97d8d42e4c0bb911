"""The PostgreSQL driver with prepared statements, against a real server."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from annotate.config import QueueSection
from annotate.intake.items import load_items
from annotate.queue.rules import Queue
from annotate.store import prepared
from annotate.store.database import Store
from tests.annotate.conftest import label, make_item
from tests.annotate.postgres import Server
from tests.annotate.queue.conftest import Account

ROUND_TRIPS = 20
"""Of a pair, leased and judged: 14 statements, two ends of a transaction, and some room."""


@pytest.fixture
def store(postgres_server: Server) -> Iterator[Store]:
    opened = Store.open(postgres_server.empty_database())
    yield opened
    opened.close()


@pytest.fixture
def connection(store: Store) -> Iterator[sa.Connection]:
    with store._engine.connect() as opened:
        yield opened


def test_a_pair_takes_one_round_trip_a_statement(
    store: Store, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_items(store, [make_item(f"i{n}") for n in range(3)], QueueSection(overlap=1, overlap_share=1))
    ann, queue = account("ann"), Queue(store, QueueSection(lease_seconds=60))
    label(queue, ann)  # prepares
    trips = 0
    reply = prepared.PreparingConnection.handle_messages

    def counted(connection: object, context: object) -> None:
        nonlocal trips
        trips += 1
        reply(connection, context)

    monkeypatch.setattr(prepared.PreparingConnection, "handle_messages", counted)
    label(queue, ann)
    begins = 2  # replies to BEGIN, which goes out with another statement
    assert trips - begins <= ROUND_TRIPS
    assert trips > 10


def test_values_come_back_as_they_were(connection: sa.Connection) -> None:
    query = sa.text("SELECT :word || '100 %', '$1 %s ''quoted''', CAST(:number AS integer) + 1, CAST(:none AS text)")
    for word in ("é\U0001f600", "%s", "it's $2"):
        for number in (1, -7):
            row = connection.execute(query, {"word": word, "number": number, "none": None}).one()
            assert tuple(row) == (f"{word}100 %", "$1 %s 'quoted'", number + 1, None)


def test_what_is_unused_for_longest_is_given_up(connection: sa.Connection) -> None:
    for repeat in range(2):
        for number in range(prepared.MOST_PREPARED + 20):
            query = sa.text(f"SELECT {number} + CAST(:value AS integer)")
            assert connection.execute(query, {"value": repeat}).scalar_one() == number + repeat
    kept = connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements").scalar_one()
    assert kept == prepared.MOST_PREPARED


def test_a_first_statement_that_fails_leaves_the_connection_usable(connection: sa.Connection) -> None:
    divide = sa.text("SELECT 10 / CAST(:value AS integer)")
    for _ in range(2):  # prepared by the first
        with pytest.raises(sa.exc.DBAPIError, match="division by zero"):
            connection.execute(divide, {"value": 0})
        connection.rollback()
        assert connection.execute(divide, {"value": 5}).scalar_one() == 2
        connection.rollback()
    with pytest.raises(sa.exc.DBAPIError, match="nowhere"):
        connection.execute(sa.text("SELECT * FROM nowhere WHERE x = :value"), {"value": 1})
    connection.rollback()
    assert connection.execute(divide, {"value": 2}).scalar_one() == 5


def test_a_write_that_is_the_first_statement_is_rolled_back(connection: sa.Connection) -> None:
    insert = sa.text("INSERT INTO meta (key, value) VALUES (:key, 'x')")
    count = sa.text("SELECT count(*) FROM meta WHERE key LIKE :key")
    for number in range(3):
        assert connection.execute(insert, {"key": f"probe-{number}"}).rowcount == 1
        connection.rollback()
    assert connection.execute(count, {"key": "probe-%"}).scalar_one() == 0
    connection.rollback()
    connection.execute(insert, {"key": "probe-kept"})
    connection.commit()
    assert connection.execute(count, {"key": "probe-%"}).scalar_one() == 1


def test_a_server_that_hung_up_costs_one_call(store: Store) -> None:
    with store.read() as transaction:
        assert transaction.setting("schema_version")
    with store._engine.connect() as other:
        other.exec_driver_sql("SELECT 1")
        with store._engine.connect() as killer:
            others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            killer.exec_driver_sql(f"{others} AND backend_type = 'client backend'")
        with pytest.raises(sa.exc.DBAPIError):
            other.execute(sa.text("SELECT :value"), {"value": "x"})
    for _ in range(3):
        with store.read() as transaction:
            assert transaction.setting("schema_version")
