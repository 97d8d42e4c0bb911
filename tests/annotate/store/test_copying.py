"""A store copied between SQLite and PostgreSQL: nothing is missing, work goes on, and a failure leaves nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from annotate.config import ExportSection, QueueSection
from annotate.intake.items import load_items
from annotate.labels.export import preferences
from annotate.labels.review import adjudicate, send_reply
from annotate.people.accounts import add_account, check_password
from annotate.people.tokens import check_token, make_token
from annotate.queue.rules import Queue, Submission
from annotate.queue.submission import Span
from annotate.store import copying
from annotate.store.copying import copy_store
from annotate.store.database import Store
from annotate.store.schema import metadata
from annotate.store.statements import Annotator
from tests.annotate.conftest import PASSWORD, label, make_item, open_card
from tests.annotate.postgres import Server
from workbench.run.errors import WorkbenchError


@pytest.fixture
def store(either_store: Store) -> Store:
    """A store with a row in every table, with revisions, repeats and texts of other scripts."""
    for name, role in (("lead", "admin"), ("ann", "annotator")):
        add_account(either_store, name, role, PASSWORD)
    items = [make_item(f"i{n}", f"première 李 {n}", "second\n'; --") for n in range(12)]
    load_items(either_store, items, QueueSection(overlap=2, overlap_share=1))
    queue = Queue(either_store, QueueSection(lease_seconds=60, repeat_share=0.5, repeat_after=1))
    ann = _account(either_store, "ann")
    for _ in range(6):
        label(queue, ann)
    with either_store.write() as transaction:
        transaction.offer_reasons(["wrong fact"])
    marks = {"reasons": ("wrong fact",), "spans": (Span(0, 1, 4, "wrong fact"),), "differences_shown": True}
    queue.submit(ann, Submission(open_card(queue, ann).item, "both_bad", "with-marks", **marks))  # type: ignore[arg-type]
    queue.undo(ann, client_key="taken-back")
    adjudicate(either_store, _account(either_store, "lead"), 1, "both_bad", strength=None, ranking=None, comment="no")
    send_reply(either_store, _account(either_store, "lead"), 2, "ann", "why?")
    with either_store.write() as transaction:
        transaction.add_annotator("machine", "annotator", 0.5, simulated=True)
    return either_store


def _account(store: Store, name: str) -> Annotator:
    with store.read() as transaction:
        account = transaction.annotator(name)
    assert account is not None
    return account


def _rows(store: Store) -> dict[str, list[tuple[object, ...]]]:
    with store.connection(write=False) as connection:
        return {
            table.name: [
                tuple(row) for row in connection.execute(sa.select(table).order_by(*table.primary_key.columns))
            ]
            for table in metadata.sorted_tables
        }


@pytest.fixture
def target(store: Store, postgres_server: Server, tmp_path: Path) -> str:
    """An address in the other kind of database."""
    return postgres_server.empty_database() if store.path is not None else str(tmp_path / "copy" / "labels.sqlite")


def test_everything_moves_and_work_goes_on(store: Store, target: str) -> None:
    token = make_token(store, "ann", "notebook", scope="label", days=9)
    before = _rows(store)
    assert all(before.values()), "a table that this test does not fill"
    assert copy_store(store, target) == {name: len(rows) for name, rows in before.items()}
    copy = Store.open(target)
    assert _rows(copy) == before
    assert check_password(copy, "ann", PASSWORD) is not None
    grant = check_token(copy, token)
    assert grant is not None
    assert grant.scope == "label"
    assert preferences(copy, ExportSection()).preferences == preferences(store, ExportSection()).preferences
    add_account(copy, "new", "annotator", PASSWORD)  # numbered after the copied rows
    load_items(copy, [make_item("new")], QueueSection(overlap=1, overlap_share=0))
    queue = Queue(copy, QueueSection(lease_seconds=60))
    label(queue, _account(copy, "new"))
    assert queue.history(_account(copy, "ann"), limit=50)
    copy.close()


def test_a_target_that_is_in_use_is_refused(store: Store, target: str) -> None:
    Store.open(target).close()
    with pytest.raises(WorkbenchError, match=r"already holds tables|already exists"):
        copy_store(store, target)
    copy = Store.open(target, as_it_is=True)
    assert _rows(copy)["annotator"] == []
    copy.close()


def _answer_meanwhile(store: Store) -> Callable[..., int]:
    def copy_table(taken: sa.Connection, given: sa.Connection, table: sa.Table) -> int:
        count = _copy_table(taken, given, table)
        if table.name == "judgement":
            ann, queue = _account(store, "ann"), Queue(store, QueueSection(lease_seconds=60))
            card = queue.next(ann)
            queue.submit(ann, Submission(card.item, "compared", "while-copying", strength=1))  # type: ignore[union-attr]
        return count

    return copy_table


_copy_table = copying._copy_table


def test_an_answer_that_comes_meanwhile_is_not_lost(store: Store, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "_copy_table", _answer_meanwhile(store))
    with pytest.raises(WorkbenchError, match=r"'judgement'[\s\S]*stop the server"):
        copy_store(store, target)
    monkeypatch.undo()
    copy_store(store, target)  # the first try has left nothing behind
    copy = Store.open(target)
    assert _rows(copy) == _rows(store)
    copy.close()


def test_what_the_other_database_cannot_hold_is_named(tmp_path: Path, postgres_server: Server) -> None:
    store, target = Store.open(tmp_path / "labels.sqlite"), postgres_server.empty_database()
    load_items(
        store, [make_item("a"), make_item("b", "text with \x00 inside")], QueueSection(overlap=1, overlap_share=0)
    )
    with pytest.raises(WorkbenchError, match="cannot take the table 'response'") as refused:
        copy_store(store, target)
    assert "nothing was copied" in str(refused.value)
    with pytest.raises(WorkbenchError, match="no such label store"):
        Store.open(target, as_it_is=True)
    store.close()
