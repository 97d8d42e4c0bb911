from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from annotate.config import QueueSection
from annotate.intake.items import Loaded, load_items
from annotate.store.database import Store
from annotate.store.statements import Transaction
from tests.annotate.conftest import make_item
from tests.annotate.postgres import Server
from workbench.data.records import Item, Response
from workbench.run.errors import WorkbenchError


@pytest.fixture
def store(either_store: Store) -> Store:
    return either_store


def _load(store: Store, *items: Item, campaign: str | None = None, **more: Any) -> Loaded:
    return load_items(store, items, QueueSection(overlap=1, overlap_share=0, **more), campaign=campaign)


def _of_three(name: str, third: str = "third answer") -> Item:
    item = make_item(name)
    return item.model_copy(update={"responses": (*item.responses, Response(id="c", text=third))})


def test_loading_twice_adds_nothing(store: Store) -> None:
    items = [make_item("a"), make_item("b")]
    first = load_items(store, items, QueueSection(overlap=1, overlap_share=0))
    again = load_items(store, items, QueueSection(overlap=1, overlap_share=0))
    assert (first.new, first.known) == (2, 0)
    assert (again.new, again.known) == (0, 2)
    with store.read() as transaction:
        assert len(transaction.items()) == 2
        assert [event["kind"] for event in transaction.events()] == ["items loaded"]


def test_the_same_id_with_other_texts_is_an_error(store: Store) -> None:
    load_items(store, [make_item("a")], QueueSection(overlap=1, overlap_share=0))
    with pytest.raises(WorkbenchError, match="'a' has other texts"):
        load_items(store, [make_item("b"), make_item("a", "changed")], QueueSection(overlap=1, overlap_share=0))
    with store.read() as transaction:
        assert len(transaction.items()) == 1  # nothing of the second file


def test_identical_answers_are_left_out_and_counted(store: Store) -> None:
    loaded = load_items(
        store, [make_item("a", "same", "same"), make_item("b")], QueueSection(overlap=1, overlap_share=0)
    )
    assert (loaded.new, loaded.identical) == (1, 1)


def test_three_answers_become_three_pairs_of_one_group(store: Store) -> None:
    item = make_item("a")
    third = item.responses[0].model_copy(update={"text": "third answer"})
    three = item.model_copy(update={"responses": (*item.responses, third)})
    assert load_items(store, [three], QueueSection(overlap=1, overlap_share=0)).new == 3
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
    load_items(store, items, QueueSection(overlap=3, overlap_share=0.2))
    load_items(other, reversed(items), QueueSection(overlap=3, overlap_share=0.2))
    overlaps = []
    for opened in (store, other):
        with opened.read() as transaction:
            overlaps.append({stored.item_id: stored.overlap for stored in transaction.items()})
    other.close()
    assert overlaps[0] == overlaps[1]
    share = sum(value == 3 for value in overlaps[0].values()) / 1000
    assert share == pytest.approx(0.2, abs=0.05)  # 4 standard deviations of a binomial share


def test_an_item_to_rank_keeps_all_its_answers(store: Store) -> None:
    assert _load(store, _of_three("a"), _of_three("b", "first answer"), compare="ranking").new == 2
    with store.read() as transaction:
        answers = transaction.all_responses()
    assert [[answer.text for answer in answers[key]] for key in (1, 2)] == [
        ["first answer", "second answer", "third answer"],
        ["first answer", "second answer"],  # a repeated answer is shown once
    ]


def test_another_item_with_the_same_texts_is_left_out_and_named(store: Store) -> None:
    item = make_item("a")
    loaded = _load(store, item, item.model_copy(update={"id": "again"}))
    assert (loaded.new, loaded.duplicates, loaded.first_duplicate) == (1, 1, ("again", "a"))
    assert _load(store, item.model_copy(update={"id": "later"})).duplicates == 1
    campaign = item.model_copy(update={"id": "of-a-campaign"})
    assert _load(store, campaign, campaign="one").new == 1  # a campaign asks again
    with store.read() as transaction:
        assert [(stored.item_id, stored.campaign) for stored in transaction.items()] == [
            ("a", None),
            ("of-a-campaign", "one"),
        ]


def test_a_known_answer_makes_a_gold_item_outside_the_common_queue(store: Store) -> None:
    _load(store, make_item("a"), make_item("g", known_strength=-2), make_item("b", priority=7))
    with store.read() as transaction:
        stored = {item.item_id: item for item in transaction.items()}
        assert transaction.totals(simulated=False) == (2, 2, 0)
        assert [item.item_id for item in transaction.items(kind="gold")] == ["g"]
    assert (stored["g"].kind, stored["g"].known_strength, stored["g"].overlap) == ("gold", -2, 0)
    assert (stored["a"].kind, stored["a"].priority, stored["b"].priority) == ("ordinary", 0, 7)


def test_priorities_change(store: Store) -> None:
    _load(store, make_item("a"), make_item("b"))
    with store.write() as transaction:
        transaction.set_priorities({"b": 0.5, "a": -1, "nowhere": 3})
    with store.read() as transaction:
        assert {item.item_id: item.priority for item in transaction.items()} == {"a": -1, "b": 0.5}


def test_awkward_texts_come_back_as_they_were(store: Store) -> None:
    text = "\u202ehidden \U0001f600 \u0301 \r\n\t${x} \ufeff\x07"
    _load(store, make_item("a", text, "'; DROP TABLE item; --"))
    with store.read() as transaction:
        assert [answer.text for answer in transaction.responses(1)] == [text, "'; DROP TABLE item; --"]


@pytest.mark.parametrize(
    ("name", "text", "problem"), [("a", "half \ud800", "surrogate"), ("x" * 201, "text", "at most 200 characters")]
)
def test_what_cannot_be_stored_is_refused(store: Store, name: str, text: str, problem: str) -> None:
    with pytest.raises(WorkbenchError, match=problem):
        _load(store, make_item("good"), make_item(name, text))
    with store.read() as transaction:
        assert transaction.items() == []


def test_a_nul_is_kept_by_sqlite_and_refused_for_postgresql(store: Store) -> None:
    item = make_item("a", "NUL \x00 inside")
    if store.path is None:
        with pytest.raises(WorkbenchError, match="NUL"):
            _load(store, item)
    else:
        _load(store, item)
        with store.read() as transaction:
            assert transaction.responses(1)[0].text == "NUL \x00 inside"


def test_a_server_has_statistics_from_the_second_batch_on(
    postgres_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without them it took 100 000 items to be new by reading all of them, for each batch."""
    seen: list[object] = []
    known_contents = Transaction.known_contents

    def spy(transaction: Transaction, marks: Sequence[str]) -> dict[tuple[str, str | None], str]:
        query = "SELECT n_distinct FROM pg_stats WHERE tablename = 'item' AND attname = 'fingerprint'"
        seen.append(transaction._connection.exec_driver_sql(query).scalar())
        return known_contents(transaction, marks)

    monkeypatch.setattr(Transaction, "known_contents", spy)
    monkeypatch.setattr("annotate.intake.items._BATCH", 50)
    store = Store.open(postgres_server.empty_database())
    load_items(store, [make_item(f"i{n}") for n in range(120)], QueueSection())
    store.close()
    assert seen == [None, -1, -1]  # each fingerprint is another one
