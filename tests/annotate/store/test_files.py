"""The files of an SQLite store: who can read them, and a backup that replaces it whatever is left of the old one."""

import logging
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from annotate.config import QueueSection
from annotate.intake.items import load_items
from annotate.store.database import Store
from annotate.store.files import restore
from tests.annotate.conftest import make_item
from tests.annotate.store.test_migrations import VERSION_1
from workbench.run.errors import WorkbenchError

ROOT = Path(__file__).parents[3]
HOLDER = """
import sys
from annotate.config import QueueSection
from annotate.intake.items import load_items
from annotate.store.database import Store
from tests.annotate.conftest import make_item

store = Store.open(sys.argv[1])
with store.read() as keeps_the_log:  # while somebody reads, SQLite cannot bring the log into the store
    keeps_the_log.items()
    load_items(store, [make_item(f"later{n}") for n in range(400)], QueueSection(overlap=1, overlap_share=0))
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def _items(path: Path) -> list[str]:
    store = Store.open(path)
    with store.read() as transaction:
        found = [item.item_id for item in transaction.items(limit=1000)]
    store.close()
    return found


def _filled(path: Path, *names: str) -> Store:
    store = Store.open(path)
    load_items(store, [make_item(name) for name in names], QueueSection(overlap=1, overlap_share=0))
    return store


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def held(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that has the store open, with a log of what it wrote after the backup `monday.sqlite`."""
    path = tmp_path / "labels.sqlite"
    store = _filled(path, "a", "b")
    store.backup(tmp_path / "monday.sqlite")
    store.close()
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def test_after_a_kill_the_old_log_does_not_come_back(held: "subprocess.Popen[str]", tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    os.kill(held.pid, signal.SIGKILL)
    held.wait()
    assert (tmp_path / "labels.sqlite-wal").stat().st_size > 100_000
    kept = restore(path, tmp_path / "monday.sqlite")
    assert _items(path) == ["a", "b"]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert kept is not None
    assert kept.name.startswith("labels.sqlite.before-restore-")
    assert len(_items(kept)) == 402  # nothing of what the log held is lost
    assert {_mode(path), _mode(kept)} == {0o600}
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(["labels.sqlite", "monday.sqlite", kept.name])


def test_a_store_in_use_is_left_alone(held: "subprocess.Popen[str]", tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match="is open in another program") as refused:
        restore(tmp_path / "labels.sqlite", tmp_path / "monday.sqlite")
    assert "annotate serve" in str(refused.value)
    assert not list(tmp_path.glob("*before-restore*"))
    assert not list(tmp_path.glob("*restoring*"))
    held.communicate()
    assert len(_items(tmp_path / "labels.sqlite")) == 402


def test_logins_end_and_the_trail_says_why(tmp_path: Path) -> None:
    store = _filled(tmp_path / "labels.sqlite", "a")
    store.backup(tmp_path / "copy.sqlite")
    with store.read() as transaction:
        before = transaction.setting("cookie_key")
    store.close()
    restore(tmp_path / "labels.sqlite", tmp_path / "copy.sqlite")
    with Store.open(tmp_path / "labels.sqlite").read() as transaction:
        assert transaction.setting("cookie_key") not in (None, "", before)
        last = transaction.events()[-1]
    assert (last["kind"], last["detail"]) == ("restored", {"backup": str(tmp_path / "copy.sqlite")})


@pytest.mark.parametrize("present", ["none", "stray log", "no database", "damaged"])
def test_what_is_left_of_the_old_store_does_no_harm(tmp_path: Path, present: str) -> None:
    path, log = tmp_path / "labels.sqlite", tmp_path / "labels.sqlite-wal"
    store = _filled(tmp_path / "copy.sqlite", "a")
    store.close()
    if present == "stray log":
        log.write_bytes(b"a log of another store" * 1000)
    elif present == "no database":
        path.write_bytes(b"not a database, but somebody's work" * 100)
        log.write_bytes(b"its log")
    elif present == "damaged":
        _filled(path, *"bcdefgh").close()
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * 20_000)
    before = path.read_bytes() if path.exists() else None
    kept = restore(path, tmp_path / "copy.sqlite")
    assert _items(path) == ["a"]
    assert not log.exists()
    if present == "no database":
        assert kept is not None
        assert kept.read_bytes() == before
        assert kept.with_name(kept.name + "-wal").read_bytes() == b"its log"
    assert (kept is None) == (before is None)


def _newer(path: Path) -> None:
    _filled(path, "a").close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")


def _another_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE notes (text)")


def _cut_off(path: Path) -> None:
    _filled(path, *(f"i{n}" for n in range(300))).close()
    path.write_bytes(path.read_bytes()[:-20_000])


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (_newer, "schema version 99, which is newer"),
        (_another_database, "not a label store"),
        (_cut_off, "damaged|malformed"),
        (lambda path: path.write_text("notes" * 1000), "cannot be read as a label store"),
        (lambda path: path.touch(), "not a label store"),
        (lambda path: None, "no such file"),
    ],
)
def test_a_backup_that_is_none_changes_nothing(tmp_path: Path, make: object, problem: str) -> None:
    path, backup = tmp_path / "labels.sqlite", tmp_path / "backup.sqlite"
    _filled(path, "mine").close()
    assert callable(make)
    make(backup)
    with pytest.raises(WorkbenchError, match=problem):
        restore(path, backup)
    assert _items(path) == ["mine"]
    assert not list(tmp_path.glob("labels.sqlite.*"))


def test_the_store_itself_is_no_backup(tmp_path: Path) -> None:
    _filled(tmp_path / "labels.sqlite", "a").close()
    (tmp_path / "link").symlink_to(tmp_path / "labels.sqlite")
    with pytest.raises(WorkbenchError, match="is the store itself"):
        restore(tmp_path / "labels.sqlite", tmp_path / "link")


def test_the_copy_of_an_upgrade_is_restored_like_a_backup(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_1.read_text(encoding="utf-8"))
    path.chmod(0o644)
    store = Store.open(path)
    load_items(store, [make_item("later")], QueueSection(overlap=1, overlap_share=0))
    store.close()
    (copy,) = tmp_path.glob("labels.sqlite.version-1")
    assert _mode(copy) == 0o600
    restore(path, copy)
    assert len(_items(path)) == 3  # brought to this version once more


def test_all_that_holds_names_or_keys_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "made" / "labels.sqlite"
    store = _filled(path, "a")
    store.backup(tmp_path / "copies" / "monday.sqlite")
    for file in (path, path.with_name("labels.sqlite-wal"), path.with_name("labels.sqlite-shm")):
        assert _mode(file) == 0o600, file
    assert _mode(tmp_path / "copies" / "monday.sqlite") == 0o600
    assert [_mode(tmp_path / name) for name in ("made", "copies")] == [0o700, 0o700]
    store.close()


def test_older_files_are_tightened_and_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "labels.sqlite"
    _filled(path, "a").close()
    copies = [tmp_path / f"labels.sqlite.{end}" for end in ("version-1", "before-restore-20260101T000000")]
    other = tmp_path / "labels.sqlite.notes"
    for file in (path, other, *copies):
        file.touch()
        file.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        Store.open(path, as_it_is=True).close()
    assert [_mode(file) for file in (path, *copies)] == [0o600] * 3
    assert _mode(other) == 0o644
    assert len(caplog.messages) == 3
    assert f"{path}: other users could read or change it (mode 644)" in caplog.text
    caplog.clear()
    Store.open(path).close()
    assert caplog.messages == []
