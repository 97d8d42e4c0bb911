"""A person or an item that is forgotten is gone from the store and its file, and no old backup brings it back."""

from collections.abc import Callable
from pathlib import Path

import pytest

from annotate.config import ExportSection, QueueSection
from annotate.labels.export import preferences
from annotate.queue.rules import Queue
from annotate.store.database import Store
from annotate.store.files import restore
from annotate.store.statements import Annotator
from tests.annotate.conftest import label

Account = Callable[..., Annotator]
NAME = 'Zoë "Quill" O\'Neil'


@pytest.fixture
def store(either_store: Store) -> Store:
    return either_store


@pytest.fixture
def judged(store: Store, account: Account, load: Callable[..., None]) -> Store:
    """Two people judge three items each."""
    load(6)
    queue = Queue(store, QueueSection(lease_seconds=60, overlap=1, overlap_share=0))
    for name in (NAME, "bea"):
        who = account(name)
        for _ in range(3):
            label(queue, who)
        with store.write() as transaction:
            transaction.add_event("state changed", 1.0, who.id, name=name)
    return store


def names(store: Store) -> set[str]:
    return {name for record in preferences(store, ExportSection()).preferences for name in record.annotators}


def test_nothing_of_a_person_is_left(judged: Store) -> None:
    assert names(judged) == {NAME, "bea"}
    assert judged.forget(annotator=NAME)
    assert names(judged) == {"bea"}
    with judged.read() as transaction:
        assert sum(item.done for item in transaction.items()) == 3  # their items are handed out again
        assert not any(NAME in str(event) for event in transaction.events())
        (account,) = [who for who in transaction.annotators() if who.name != "bea"]
        assert (account.name.partition("-")[0], account.removed, account.password_hash) == ("forgotten", True, None)
        assert {row["annotator"] for row in transaction.all_judgements()} == {"bea"}
    assert not judged.forget(annotator=NAME)
    if judged.path is not None:
        beside = list(judged.path.parent.glob(judged.path.name + "*"))
        assert judged.path.with_name(judged.path.name + ".forgotten") in beside
        assert not any(word in file.read_bytes() for file in beside for word in (b"Quill", b"Neil-i"))


def test_nothing_of_an_item_is_left(judged: Store) -> None:
    assert judged.forget(item_id="i0")
    with judged.read() as transaction:
        assert {item.item_id for item in transaction.items()} == {f"i{n}" for n in range(1, 6)}
        assert "i0" not in {row["item"] for row in transaction.all_judgements()}
    assert not judged.forget(item_id="i0")


def test_an_old_backup_brings_nobody_back(judged: Store, tmp_path: Path) -> None:
    if judged.path is None:
        pytest.skip("a server's backups are made by its own programs")
    backup = tmp_path / "old.sqlite"
    judged.backup(backup)
    judged.forget(annotator=NAME)
    judged.forget(item_id="i5")
    judged.close()
    restore(judged.path, backup)
    with judged.read() as transaction:
        assert "i5" not in {item.item_id for item in transaction.items()}
        assert sum(item.done for item in transaction.items()) == 2
    assert names(judged) == {"bea"}
    assert b"Quill" not in judged.path.read_bytes()
    other = tmp_path / "elsewhere.sqlite"  # a store without tombstones gets everything
    restore(other, backup)
    assert names(Store.open(other)) == {NAME, "bea"}
