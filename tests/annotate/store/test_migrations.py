import re
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from annotate.config import QueueSection
from annotate.people.tokens import check_token
from annotate.queue.rules import Card, Queue, Submission
from annotate.store import schema
from annotate.store.database import Store
from annotate.store.schema import SCHEMA_VERSION, metadata
from annotate.store.statements import Transaction
from tests.annotate.postgres import Server
from workbench.run.errors import WorkbenchError

VERSION_1, VERSION_2, VERSION_3 = (Path(__file__).with_name("data") / f"store_version_{n}.sql" for n in (1, 2, 3))


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A store as the first version of the schema wrote it: three items, ann judged one, bea withdrew and is paused."""
    path = tmp_path / "labels.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript(VERSION_1.read_text(encoding="utf-8"))
    connection.close()
    return path


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """A store as version 2 wrote it: lead, ann (who has a token) and Ann; one judged item, one skipped, one decided."""
    path = tmp_path / "second.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript(VERSION_2.read_text(encoding="utf-8"))
    connection.close()
    path.chmod(0o644)
    return path


def _shape(path: Path) -> dict[str, object]:
    engine = sa.create_engine(f"sqlite:///{path}")
    inspector = sa.inspect(engine)
    shape = {
        table: (
            {column["name"]: (str(column["type"]), column["nullable"]) for column in inspector.get_columns(table)},
            {index["name"] for index in inspector.get_indexes(table)},
        )
        for table in inspector.get_table_names()
    }
    engine.dispose()
    return shape


def test_an_old_store_becomes_one_of_this_version(old: Path, tmp_path: Path) -> None:
    store = Store.open(old)
    with store.read() as transaction:
        assert transaction.setting("schema_version") == str(SCHEMA_VERSION)
        assert transaction.setting("cookie_key") == "a-key-of-a-test"
        assert {account.name: account.state for account in transaction.annotators()} == {
            "ann": "active",
            "bea": "paused",
        }
        judged = {(j.item, j.annotator): (j.choice, j.strength) for j in transaction.current_judgements()}
        assert judged == {(1, "ann"): ("compared", 2), (2, "ann"): ("skipped", None)}
        assert transaction.events()[-1]["detail"] == {"before": 1, "after": SCHEMA_VERSION}
        ann = transaction.annotator("ann")
    assert ann is not None
    queue = Queue(store, QueueSection(lease_seconds=60))
    card = queue.next(ann)
    assert isinstance(card, Card)
    assert queue.submit(ann, Submission(card.item, "compared", "a-new-key", strength=1, flag="pii")).revision == 1
    store.close()
    Store.open(tmp_path / "fresh.sqlite").close()
    assert _shape(old) == _shape(tmp_path / "fresh.sqlite")
    assert set(_shape(old)) == set(metadata.tables)


def test_tokens_of_version_2_keep_what_they_may(second: Path, tmp_path: Path) -> None:
    said: list[str] = []
    store = Store.open(second, say=said.append)
    assert "'Ann' and 'ann' differ only in case" in said[1]
    grant = check_token(store, "aw_a-token-of-a-test")
    assert grant is not None
    assert (grant.account.name, grant.scope) == ("ann", "admin")
    with store.read() as transaction:
        assert [(token.name, token.expires_at) for token in transaction.tokens()] == [("notebook", None)]
        assert len(transaction.adjudications()) == 1
        assert len(list(transaction.all_judgements())) == 2
    store.close()
    Store.open(tmp_path / "fresh.sqlite").close()
    assert _shape(second) == _shape(tmp_path / "fresh.sqlite")
    (copy,) = tmp_path.glob("second.sqlite.version-2")
    assert copy.stat().st_mode & 0o777 == 0o600


def _judgements(path: Path) -> list[dict[str, object]]:
    with sqlite3.connect(path) as connection:
        connection.row_factory = sqlite3.Row
        rows = [dict(row) for row in connection.execute("SELECT * FROM judgement ORDER BY id")]
    connection.close()
    return rows


def test_judgements_of_version_3_keep_every_value(tmp_path: Path) -> None:
    path = tmp_path / "third.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript(VERSION_3.read_text(encoding="utf-8"))
    connection.close()
    before = _judgements(path)
    assert [row["choice"] for row in before] == ["compared", "compared", "ranked", "withdrawn"]
    store = Store.open(path)
    new = {"reasons": None, "spans": None, "differences_shown": 0}
    assert _judgements(path) == [{**row, **new} for row in before]
    with store.read() as transaction:
        ann = transaction.annotator("ann")
    assert ann is not None
    queue = Queue(store, QueueSection())
    assert queue.again(ann, 1).previous == {
        "choice": "compared",
        "strength": 2,
        "rubric": {"helpful": -1},
        "edited_text": "improved",
        "edited_response": 1,
        "flag": "unsafe",
        "comment": "a comment",
    }
    store.close()
    Store.open(tmp_path / "fresh.sqlite").close()
    assert _shape(path) == _shape(tmp_path / "fresh.sqlite")


def test_the_old_state_is_kept_beside_it(old: Path) -> None:
    Store.open(old).close()
    Store.open(old).close()  # of this version now: no second copy
    (copy,) = old.parent.glob("labels.sqlite.version-*")
    connection = sqlite3.connect(copy)
    assert connection.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone() == ("1",)
    assert connection.execute("SELECT count(*) FROM judgement").fetchone() == (4,)
    connection.close()


def test_an_upgrade_is_said_and_a_command_that_reads_changes_nothing(old: Path) -> None:
    before = old.read_bytes()
    with pytest.raises(WorkbenchError, match="older than this program") as refused:
        Store.open(old, as_it_is=True)
    assert "annotate upgrade" in str(refused.value)
    assert [entry.name for entry in old.parent.glob("labels.sqlite.version-*")] == []
    assert old.read_bytes()[100:] == before[100:]  # the header tells the mode of the journal
    said: list[str] = []
    Store.open(old, say=said.append).close()
    copy = f"{old}.version-1"
    assert said == [f"{old}: upgraded from schema version 1 to {SCHEMA_VERSION}; copy of the previous store: {copy}"]
    Store.open(old, as_it_is=True, say=said.append).close()
    assert len(said) == 1


def test_a_command_that_reads_makes_no_store(tmp_path: Path, postgres_server: Server) -> None:
    url = postgres_server.empty_database()
    for place in (tmp_path / "none.sqlite", url):
        with pytest.raises(WorkbenchError, match="no such label store"):
            Store.open(place, as_it_is=True)
    assert list(tmp_path.iterdir()) == []


def test_a_migration_that_fails_changes_nothing(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _shape(old)
    steps = {**schema.STEPS, 1: (*schema.STEPS[1][:5], "ALTER TABLE nowhere ADD COLUMN x TEXT")}
    monkeypatch.setattr(schema, "STEPS", steps)
    with pytest.raises(WorkbenchError, match="nowhere"):
        Store.open(old)
    assert _shape(old) == before


def _make_tables(connection: sa.Connection, dump: Path) -> None:
    """Make the tables of an SQLite dump in PostgreSQL, each after those it refers to."""
    tables = [
        statement for statement in dump.read_text(encoding="utf-8").split(";\n") if statement.startswith("CREATE")
    ]
    assert len(tables) > 10
    made: set[str] = set()
    while tables:
        for statement in tables:
            own = set(re.findall(r"CREATE TABLE (\w+)", statement))
            if set(re.findall(r"(?:REFERENCES|ON) (\w+)", statement)) <= made | own:
                break
        tables.remove(statement)
        connection.exec_driver_sql(statement.replace("\tid INTEGER", "\tid SERIAL"))
        made |= own


def test_postgresql_takes_the_same_steps(postgres_server: Server) -> None:
    url = postgres_server.empty_database()
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+pg8000:"))
    with engine.begin() as connection:
        _make_tables(connection, VERSION_1)
        connection.exec_driver_sql("INSERT INTO meta VALUES ('schema_version', '1'), ('cookie_key', 'a-key')")
        for number, active in ((1, "true"), (2, "false")):
            values = f"({number}, 'person-{number}', 'annotator', NULL, false, {active}, 0, 1.0)"
            connection.exec_driver_sql(f"INSERT INTO annotator VALUES {values}")
    engine.dispose()
    store = Store.open(url)
    with store.read() as transaction:
        assert [account.state for account in transaction.annotators()] == ["active", "paused"]
        assert transaction.items() == transaction.tokens() == []
        assert transaction.setting("schema_version") == str(SCHEMA_VERSION)
    store.close()


def test_postgresql_keeps_judgements_of_version_3(postgres_server: Server) -> None:
    url = postgres_server.empty_database()
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+pg8000:"))
    with engine.begin() as connection:
        _make_tables(connection, VERSION_3)
        for statement in (
            "INSERT INTO meta VALUES ('schema_version', '3'), ('cookie_key', 'a-key')",
            "INSERT INTO annotator VALUES (1, 'ann', 'annotator', NULL, false, 'active', 0, 1.0)",
            "INSERT INTO item VALUES (1, 'i', 'g', '[]', 'ordinary', NULL, NULL, NULL, NULL, 0, 1, 1, 0, 0, 1.0, 'f')",
            "INSERT INTO assignment VALUES (1, 1, 1, false, 'done', false, NULL, 1.0, 2.0, 1, false)",
            "INSERT INTO judgement (id, item, annotator, revision, client_key, choice, strength, swapped, comment,"
            " created_at) VALUES (1, 1, 1, 1, 'a-good-key', 'compared', -2, false, 'kept', 1.0)",
        ):
            connection.exec_driver_sql(statement)
    engine.dispose()
    store = Store.open(url)
    with store.read() as transaction:
        (judgement,) = transaction.current_judgements()
    assert (judgement.strength, judgement.comment) == (-2, "kept")
    assert (judgement.reasons, judgement.spans, judgement.differences_shown) == (None, None, False)
    store.close()


def test_every_version_has_its_step() -> None:
    assert set(schema.STEPS) == set(range(1, SCHEMA_VERSION))


def test_a_newer_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    store = Store.open(path)
    with store.write() as transaction:
        assert isinstance(transaction, Transaction)
        transaction.put_setting("schema_version", "99")
    store.close()
    with pytest.raises(WorkbenchError, match="schema version 99, which is newer"):
        Store.open(path)
    assert [entry.name for entry in tmp_path.glob("*.version-*")] == []
