import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from annotate.config import QueueSection
from annotate.intake.items import load_items
from annotate.store.database import Store
from tests.annotate.conftest import make_item
from tests.annotate.postgres import Server
from workbench.run.errors import WorkbenchError

ROOT = Path(__file__).parents[3]


def _pragma(path: Path, name: str) -> object:
    connection = sqlite3.connect(path)
    value = connection.execute(f"PRAGMA {name}").fetchone()[0]
    connection.close()
    return value


def test_write_ahead_log_and_full_synchronisation(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "labels.sqlite")
    assert _pragma(tmp_path / "labels.sqlite", "journal_mode") == "wal"
    with store.write() as transaction:
        assert transaction._connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
    store.close()


def test_an_error_rolls_the_transaction_back(store: Store) -> None:
    def fail() -> None:
        with store.write() as transaction:
            transaction.put_setting("key", "value")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    with store.read() as transaction:
        assert transaction.setting("key") is None


def test_cookie_key_survives_reopening(tmp_path: Path) -> None:
    keys = []
    for _ in range(2):
        opened = Store.open(tmp_path / "labels.sqlite")
        with opened.read() as transaction:
            keys.append(transaction.setting("cookie_key"))
        opened.close()
    assert keys[0] == keys[1] is not None


def test_a_store_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    Store.open(path).close()
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    connection.close()
    with pytest.raises(WorkbenchError, match="schema version 99"):
        Store.open(path)


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are notes, no database\n" * 100)
    with pytest.raises(WorkbenchError, match="cannot be used as a label store"):
        Store.open(path)


def test_a_backup_is_whole_while_others_write(store: Store, tmp_path: Path) -> None:
    load_items(store, [make_item("a"), make_item("b")], QueueSection(overlap=1, overlap_share=0))
    with store.write() as transaction:
        transaction.put_setting("unfinished", "yes")
        store.backup(tmp_path / "copies" / "labels.sqlite")
    copy = Store.open(tmp_path / "copies" / "labels.sqlite")
    with copy.read() as transaction:
        assert [item.item_id for item in transaction.items()] == ["a", "b"]
        assert transaction.setting("unfinished") is None
    copy.close()
    with pytest.raises(WorkbenchError, match="already exists"):
        store.backup(tmp_path / "copies" / "labels.sqlite")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder here refuses even root")
def test_a_backup_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "labels.sqlite")
    with pytest.raises(WorkbenchError, match=r"/proc/copy\.sqlite: cannot be written"):
        store.backup(Path("/proc/copy.sqlite"))
    store.close()


def test_a_postgresql_store_names_its_own_backup_program(postgres_server: Server, tmp_path: Path) -> None:
    store = Store.open(postgres_server.empty_database())
    with pytest.raises(WorkbenchError, match="pg_dump"):
        store.backup(tmp_path / "labels.sqlite")
    store.close()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("oracle9://somewhere/labels", "cannot be opened"),
        ("postgresql://ann:secret@127.0.0.1:1/labels", "cannot be used: .*\n.*a server that responds"),
    ],
)
def test_a_bad_address_is_explained_without_its_password(url: str, problem: str) -> None:
    with pytest.raises(WorkbenchError, match=problem) as caught:
        Store.open(url)
    assert "secret" not in str(caught.value)


LABELLER = """
import sys
from annotate.config import QueueSection
from annotate.queue.rules import Card, Queue, Submission
from annotate.store.database import Store

store = Store.open(sys.argv[1])
with store.read() as transaction:
    who = transaction.annotator("ann")
queue = Queue(store, QueueSection(lease_seconds=60))
while isinstance(card := queue.next(who), Card):
    key = f"key-{card.item:06}"
    queue.submit(who, Submission(card.item, "compared", key, strength=1))
    print(key, flush=True)
"""


def test_every_acknowledged_judgement_survives_a_kill(store: Store, tmp_path: Path) -> None:
    load_items(store, [make_item(f"i{number}") for number in range(3000)], QueueSection(overlap=1, overlap_share=0))
    with store.write() as transaction:
        transaction.add_annotator("ann", "annotator", 0.0)
    acknowledged: list[str] = []
    for _ in range(2):
        command = [sys.executable, "-c", LABELLER, str(tmp_path / "labels.sqlite")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            assert process.stdout is not None
            acknowledged += [process.stdout.readline().strip() for _ in range(40)]
            process.kill()
            # What it had written to the pipe before was acknowledged as well; the last line may be cut.
            acknowledged += [line.strip() for line in process.stdout if line.endswith("\n")]
    reopened = Store.open(tmp_path / "labels.sqlite")
    with reopened.read() as transaction:
        rows = list(transaction.all_judgements())
        done = sum(item.done for item in transaction.items())
    reopened.close()
    assert len(acknowledged) >= 80
    assert len(set(acknowledged)) == len(acknowledged)
    assert set(acknowledged) <= {row["client_key"] for row in rows}
    assert len(rows) == done == len({row["item"] for row in rows})
