import sqlite3
from pathlib import Path

import pytest

from annotate.items import load_items
from annotate.store import Store
from tests.annotate.conftest import make_item
from workbench.run.errors import WorkbenchError


def _pragma(path: Path, name: str) -> object:
    connection = sqlite3.connect(path)
    value = connection.execute(f"PRAGMA {name}").fetchone()[0]
    connection.close()
    return value


def test_write_ahead_log_and_full_synchronisation(store: Store, tmp_path: Path) -> None:
    assert _pragma(tmp_path / "labels.sqlite", "journal_mode") == "wal"
    with store.write() as transaction:
        assert transaction._connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL


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


def test_loading_twice_adds_nothing(store: Store) -> None:
    items = [make_item("a"), make_item("b")]
    first = load_items(store, items, overlap=1, overlap_share=0)
    again = load_items(store, items, overlap=1, overlap_share=0)
    assert (first.new, first.known) == (2, 0)
    assert (again.new, again.known) == (0, 2)
    with store.read() as transaction:
        assert len(transaction.items()) == 2
        assert [event["kind"] for event in transaction.events()] == ["items loaded"]


def test_the_same_id_with_other_texts_is_an_error(store: Store) -> None:
    load_items(store, [make_item("a")], overlap=1, overlap_share=0)
    with pytest.raises(WorkbenchError, match="'a' has other texts"):
        load_items(store, [make_item("b"), make_item("a", "changed")], overlap=1, overlap_share=0)
    with store.read() as transaction:
        assert len(transaction.items()) == 1  # nothing of the second file


def test_identical_answers_are_left_out_and_counted(store: Store) -> None:
    loaded = load_items(store, [make_item("a", "same", "same"), make_item("b")], overlap=1, overlap_share=0)
    assert (loaded.new, loaded.identical) == (1, 1)


def test_three_answers_become_three_pairs_of_one_group(store: Store) -> None:
    item = make_item("a")
    third = item.responses[0].model_copy(update={"text": "third answer"})
    three = item.model_copy(update={"responses": (*item.responses, third)})
    assert load_items(store, [three], overlap=1, overlap_share=0).new == 3
    with store.read() as transaction:
        items, answers = transaction.items(), transaction.all_responses()
    assert {stored.group_id for stored in items} == {"group-a"}
    assert sorted(tuple(answer.text.split()[0] for answer in answers[stored.id]) for stored in items) == [
        ("first", "second"),
        ("first", "third"),
        ("second", "third"),
    ]


def test_overlap_share_is_kept_and_does_not_depend_on_order(store: Store, tmp_path: Path) -> None:
    items = [make_item(f"i{number}") for number in range(1000)]
    other = Store.open(tmp_path / "other.sqlite")
    load_items(store, items, overlap=3, overlap_share=0.2)
    load_items(other, reversed(items), overlap=3, overlap_share=0.2)
    overlaps = []
    for opened in (store, other):
        with opened.read() as transaction:
            overlaps.append({stored.item_id: stored.overlap for stored in transaction.items()})
    other.close()
    assert overlaps[0] == overlaps[1]
    share = sum(value == 3 for value in overlaps[0].values()) / 1000
    assert share == pytest.approx(0.2, abs=0.05)  # 4 standard deviations of a binomial share
