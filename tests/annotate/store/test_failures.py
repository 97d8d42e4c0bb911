"""What the user can mend is one error that names the store; nothing that was stored is lost."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from annotate.__main__ import main
from annotate.config import QueueSection
from annotate.intake.items import load_items
from annotate.store import database
from annotate.store.address import without_password
from annotate.store.database import Store
from annotate.store.failures import failures_explained
from annotate.store.files import restore
from tests.annotate.conftest import client_of, make_item
from tests.annotate.postgres import Server
from tests.annotate.test_simulate import help_desk_items
from workbench.data.readers import write_records
from workbench.run.errors import WorkbenchError

KEPT = "what was stored before is kept"


@pytest.fixture
def pragmas(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """PRAGMAs that new connections to SQLite stores run: `max_page_count` is a disk that becomes full."""
    given: list[str] = []
    made = database._sqlite_engine

    def engine(path: Path, durable: bool) -> sa.Engine:
        new = made(path, durable)

        @sa.event.listens_for(new, "connect")
        def _connect(connection: Any, _record: Any) -> None:
            for pragma in given:
                connection.execute(f"PRAGMA {pragma}")

        return new

    monkeypatch.setattr(database, "_sqlite_engine", engine)
    return given


def _number(path: Path, query: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return int(connection.execute(query).fetchone()[0])


def _judgements(path: Path) -> int:
    return _number(path, "SELECT count(*) FROM judgement")


def _pages(path: Path) -> int:
    return _number(path, "PRAGMA page_count")


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    write_records(tmp_path / "items.jsonl", help_desk_items(150))
    values = {"pairs.out": tmp_path / "items.jsonl", "store.url": tmp_path / "labels.sqlite"}
    path = Path(__file__).parents[3] / "configs/tiny/annotate.yaml"
    return [str(path), *(f"{key}={value}" for key, value in values.items())]


def test_a_full_disk_ends_a_command_and_the_same_command_goes_on(
    tmp_path: Path, arguments: list[str], pragmas: list[str]
) -> None:
    store = tmp_path / "labels.sqlite"
    main(["load", *arguments, str(tmp_path / "items.jsonl")])
    pragmas.append(f"max_page_count={_pages(store) + 2}")
    with pytest.raises(WorkbenchError, match="the label store cannot be used: database or disk is full") as caught:
        main(["simulate", *arguments])
    assert caught.value.place == str(store)
    assert "free space" in str(caught.value.expected)
    assert KEPT in str(caught.value.remedy)
    before = _judgements(store)
    assert before > 0
    write_records(tmp_path / "more.jsonl", [make_item(f"more-{n}") for n in range(150)])
    with pytest.raises(WorkbenchError, match="disk is full"):
        main(["load", *arguments, str(tmp_path / "more.jsonl")])
    assert _number(store, "SELECT count(*) FROM item") == 150
    pragmas.clear()
    main(["simulate", *arguments])
    assert _judgements(store) > max(before, 150)


@pytest.mark.parametrize(
    ("pragma", "reason"),
    [("query_only=ON", "attempt to write a readonly database"), ("max_page_count=1", "database or disk is full")],
)
def test_a_store_that_cannot_be_made_names_the_reason(
    tmp_path: Path, arguments: list[str], pragmas: list[str], pragma: str, reason: str
) -> None:
    pragmas.append(pragma)
    with pytest.raises(WorkbenchError, match=reason):
        main(["simulate", *arguments])


def test_a_lock_of_another_program_is_explained(
    tmp_path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main(["load", *arguments, str(tmp_path / "items.jsonl")])
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.05)
    other = sqlite3.connect(tmp_path / "labels.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(WorkbenchError, match="database is locked") as caught:
        main(["simulate", *arguments])
    assert "no other program" in str(caught.value.expected)
    other.close()


def test_a_defect_stays_one(store: Store) -> None:
    with (
        pytest.raises(sa.exc.OperationalError, match="no such table"),
        failures_explained("x"),
        store.connection(write=False) as connection,
    ):
        connection.exec_driver_sql("SELECT * FROM nowhere")


def test_a_backup_is_not_blamed_for_a_full_disk(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    load_items(store, [make_item("a")], QueueSection())
    store.backup(tmp_path / "backup.sqlite")
    connect = sqlite3.connect

    def small(address: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(address, **options)
        if str(address).endswith(".restoring"):
            connection.execute("PRAGMA max_page_count=2")
        return connection

    monkeypatch.setattr(sqlite3, "connect", small)
    with pytest.raises(WorkbenchError, match=r"^x: .* disk is full"), failures_explained("x"):
        restore(tmp_path / "other.sqlite", tmp_path / "backup.sqlite")
    assert not list(tmp_path.glob("other*"))


def test_a_label_that_cannot_be_stored_is_not_said_to_be(tmp_path: Path, pragmas: list[str]) -> None:
    """The page keeps an answer that gets a status of 500 or more, and sends it again."""
    opened = Store.open(tmp_path / "labels.sqlite", durable=False)
    load_items(opened, [make_item("a"), make_item("b")], QueueSection(overlap=1))
    opened.close()
    pragmas.append(f"max_page_count={_pages(tmp_path / 'labels.sqlite')}")
    small = Store.open(tmp_path / "labels.sqlite", durable=False)
    app = client_of(small, login=False).app
    client = TestClient(app, "http://localhost", raise_server_exceptions=False, client=("127.0.0.1", 1))
    card = client.post("/api/v1/next").json()["card"]
    answer = {"item": card["item"], "choice": "compared", "strength": 1, "comment": "long " * 900}
    for _ in range(2):
        assert client.post("/api/v1/submit", json={**answer, "client_key": "key-0001"}).status_code == 500
    assert _judgements(tmp_path / "labels.sqlite") == 0
    small.close()
    pragmas.clear()
    with client_of(Store.open(tmp_path / "labels.sqlite", durable=False), login=False) as client:
        assert client.post("/api/v1/submit", json={**answer, "client_key": "key-0001"}).json()["revision"] == 1
    assert _judgements(tmp_path / "labels.sqlite") == 1


_END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = 'tester'"


def _hung_up(store: Store) -> None:
    with store.connection(write=True) as connection, store._engine.connect() as other:
        other.exec_driver_sql(_END)
        connection.execute(sa.text("SELECT :value"), {"value": "x"})


def _read_only(store: Store) -> None:
    with store.connection(write=True) as connection:
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")
        connection.exec_driver_sql("DELETE FROM meta")


@pytest.mark.parametrize(("fail", "reason"), [(_hung_up, "terminating connection"), (_read_only, "read-only transact")])
def test_a_server_that_hangs_up_or_takes_no_changes_is_explained(
    postgres_server: Server, fail: Callable[[Store], None], reason: str
) -> None:
    store = Store.open(postgres_server.empty_database(), durable=False)
    with pytest.raises(WorkbenchError, match="x: the label store cannot be used") as caught, failures_explained("x"):
        fail(store)
    assert "a server that responds" in str(caught.value.expected)
    assert reason in caught.value.problem or "network" in caught.value.problem
    assert "{" not in caught.value.problem
    with (
        pytest.raises(sa.exc.DBAPIError, match="division by zero"),
        failures_explained("x"),
        store.connection(write=False) as connection,
    ):
        connection.exec_driver_sql("SELECT 1 / 0")
    store.close()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("a@b/labels.sqlite", "a@b/labels.sqlite"),
        ("postgresql://ann:secret@db/labels", "postgresql://ann:***@db/labels"),
        ("postgresql://ann:secret@db:port/labels", "db:port/labels"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown
