"""Gold items and repeats among the ordinary ones."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from annotate.config import QueueSection
from annotate.intake.items import load_items
from annotate.queue.rules import Card, Queue, Submission
from annotate.store.database import Store
from annotate.store.statements import Annotator, planted
from tests.annotate.conftest import Clock, label, make_item, open_card

Account = Callable[..., Annotator]
Load = Callable[..., None]


@pytest.fixture
def store(either_store: Store) -> Store:
    return either_store


def test_gold_items_and_repeats_come_at_their_rates(store: Store, account: Account, clock: Clock) -> None:
    gold = [make_item(f"gold{n}", known_strength=2) for n in range(30)]
    load_items(store, [*(make_item(f"i{n}") for n in range(100)), *gold], QueueSection(overlap=1, overlap_share=0))
    queue = Queue(
        store, QueueSection(lease_seconds=60, gold_share=0.1, repeat_share=0.15, repeat_after=10), clock=clock
    )
    ann, given = account("ann"), []
    while isinstance(card := queue.next(ann), Card):
        clock.now += 1
        given.append(card.item)
        queue.submit(ann, Submission(card.item, "compared", f"key-{card.item:06}", strength=1))
    with store.read() as transaction:
        items = {item.id: item for item in transaction.items()}
        assert transaction.totals(simulated=False) == (100, 100, 100)
    kinds = Counter(items[key].kind for key in given)
    assert len(given) == len(set(given))
    assert kinds["ordinary"] == 100
    assert kinds["gold"] / len(given) == pytest.approx(0.1, abs=0.1)
    assert kinds["repeat"] / len(given) == pytest.approx(0.15, abs=0.12)
    repeated = [items[key].repeat_of for key in given if items[key].kind == "repeat"]
    assert len(repeated) == len(set(repeated))
    for place, key in enumerate(given):
        if items[key].kind == "repeat":
            assert place - given.index(items[key].repeat_of or 0) > 10
    with store.read() as transaction:
        first = next(item for item in items.values() if item.kind == "repeat")
        assert transaction.responses(first.id) == transaction.responses(first.repeat_of or 0)
        sides = {j.item: j.swapped for j in transaction.current_judgements()}
    changed = [sides[item.id] != sides[item.repeat_of or 0] for item in items.values() if item.kind == "repeat"]
    assert True in changed  # the sides of a repeat are drawn anew
    assert False in changed


def test_a_repeat_left_lying_comes_back_to_the_same_person_only(store: Store, account: Account, clock: Clock) -> None:
    load_items(store, [make_item(f"i{n}") for n in range(6)], QueueSection(overlap=2, overlap_share=1))
    queue = Queue(store, QueueSection(lease_seconds=60, repeat_share=1, repeat_after=1), clock=clock)
    ann, bea = account("ann"), account("bea")
    first = label(queue, ann)
    second = label(queue, ann)  # the first is the one item given since: no repeat yet
    repeat = open_card(queue, ann)
    clock.now += 61
    assert open_card(queue, ann).item == repeat.item
    assert open_card(queue, bea).item == first
    assert repeat.item not in (first, second)
    with store.read() as transaction:
        stored = transaction.item(repeat.item, simulated=False)
    assert stored is not None
    assert (stored.kind, stored.repeat_of) == ("repeat", first)


def test_simulated_annotators_get_nothing_planted(store: Store, account: Account) -> None:
    load_items(store, [make_item("i"), make_item("gold", known_strength=2)], QueueSection(overlap=1, overlap_share=0))
    queue = Queue(store, QueueSection(lease_seconds=60, gold_share=1))
    assert open_card(queue, account("machine", simulated=True)).item_id == "i"
    assert open_card(queue, account("ann")).item_id == "gold"


@pytest.mark.parametrize("statement", [planted._GOLD, planted._TRAINING, planted._PLACE_IN_TRAINING])
def test_planted_items_are_found_by_their_index(store: Store, statement: sa.Select[Any]) -> None:
    """Without it each new card reads all 100 000 items."""
    load_items(store, [make_item(f"i{n}") for n in range(300)], QueueSection())
    values = {"annotator": 1, "now": 0.0, "item": 1}
    with store.read() as transaction:
        connection = transaction._connection
        compiled = statement.compile(connection)
        assert "kind != 'ordinary'" in str(compiled)
        if store.path is None:
            return  # PostgreSQL may well read a small table as a whole
        ordered = tuple({**compiled.params, **values}[name] for name in compiled.positiontup or ())
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", ordered).all()
    assert "item_planted" in str(plan)
