"""The PostgreSQL driver with prepared statements, against a real server."""

from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from annotate.config import QueueSection
from annotate.intake.items import load_items
from annotate.queue.rules import Queue, Submission
from annotate.store import prepared
from annotate.store.database import Store
from annotate.store.statements import Transaction
from tests.annotate.conftest import make_item, open_card
from tests.annotate.postgres import Server
from tests.annotate.queue.conftest import Account

ROUND_TRIPS = {"apart": 8, "together": 7}
"""Per pair, leased and judged in two transactions or in one."""


@pytest.fixture
def store(postgres_server: Server) -> Iterator[Store]:
    opened = Store.open(postgres_server.empty_database())
    yield opened
    opened.close()


@pytest.fixture
def connection(store: Store) -> Iterator[sa.Connection]:
    with store._engine.connect() as opened:
        yield opened


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The replies that each wait was for."""
    waits: list[int] = []
    read = prepared.PreparingConnection._read_owed

    def counted(connection: prepared.PreparingConnection) -> object:
        waits.append(len(connection._owed))
        return read(connection)

    monkeypatch.setattr(prepared.PreparingConnection, "_read_owed", counted)
    return waits


@pytest.mark.parametrize("way", ROUND_TRIPS)
def test_round_trips_of_a_pair(store: Store, account: Account, trips: list[int], way: str) -> None:
    load_items(store, [make_item(f"i{n}") for n in range(5)], QueueSection(overlap=1, overlap_share=1))
    ann, queue = account("ann"), Queue(store, QueueSection(lease_seconds=60))
    card = open_card(queue, ann)
    for number in range(3):  # the first ones prepare
        trips.clear()
        answer = Submission(card.item, "compared", strength=1, client_key=f"a-long-key-{number}")
        if way == "together":
            card = queue.submit_and_next(ann, answer)[1]  # type: ignore[assignment]
        else:
            queue.submit(ann, answer)
            card = open_card(queue, ann)
    assert len(trips) == ROUND_TRIPS[way]
    assert sum(trips) > len(trips) + 4  # BEGIN, locks and writes wait for nobody


def test_reading_waits_once_per_statement(store: Store, trips: list[int]) -> None:
    for _ in range(3):
        trips.clear()
        with store.read() as transaction:
            assert transaction.setting("schema_version")
    assert trips == [3]  # the end of the transaction before, BEGIN, and the statement


def add_two_rows(store: Store, annotator: int, then: Callable[[Transaction], object]) -> None:
    """An event, and a judgement of an item that does not exist."""
    values = {"annotator": annotator, "revision": 1, "client_key": "a-key", "choice": "both_bad", "swapped": False}
    with store.write() as transaction:
        transaction.add_event("before", 0.0)
        transaction.add_judgement(item=99, created_at=0.0, **values)
        then(transaction)


@pytest.mark.parametrize("then", [lambda transaction: transaction.setting("schema_version"), lambda _: None])
def test_the_error_of_a_statement_that_nobody_waits_for(
    store: Store, account: Account, then: Callable[[Transaction], object]
) -> None:
    who = account("ann")
    with pytest.raises(sa.exc.DBAPIError, match="judgement_item_fkey"):
        add_two_rows(store, who.id, then)
    with store.read() as transaction:
        assert not any(event["kind"] == "before" for event in transaction.events())


def test_an_error_of_the_program_undoes_what_nobody_waits_for(store: Store, account: Account) -> None:
    who = account("ann")
    with pytest.raises(ZeroDivisionError):
        add_two_rows(store, who.id, lambda _: 1 / 0)
    with store.read() as transaction:
        assert not any(event["kind"] == "before" for event in transaction.events())


def test_reading_sees_one_state_and_writes_nothing(store: Store) -> None:
    with store.read() as reading:
        before = reading.setting("schema_version")
        with store.write() as transaction:
            transaction.put_setting("schema_version", "99")
        assert reading.setting("schema_version") == before
    with store.read() as reading, pytest.raises(sa.exc.DBAPIError, match="read-only"):
        reading.put_setting("schema_version", "7")


def test_loading_updates_the_statistics_of_the_planner(store: Store, connection: sa.Connection) -> None:
    load_items(store, [make_item(f"i{n}") for n in range(40)], QueueSection())
    rows = connection.exec_driver_sql("SELECT relname, reltuples FROM pg_class WHERE relname IN ('item', 'response')")
    assert {name: int(count) for name, count in rows} == {"item": 40, "response": 80}


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
