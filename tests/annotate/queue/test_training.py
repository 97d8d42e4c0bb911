"""Training items: everybody gets them first, they teach, and they count nowhere."""

from collections.abc import Callable

import pytest
from pydantic import ValidationError

from annotate.config import ExportSection, QueueSection
from annotate.intake.items import load_items
from annotate.labels.export import preferences
from annotate.labels.survey import survey
from annotate.queue.cards import Lesson
from annotate.queue.rules import Card, Queue
from annotate.store.database import Store
from annotate.store.statements import Annotator
from tests.annotate.conftest import Clock, label, make_item, open_card

Account = Callable[..., Annotator]
Load = Callable[..., None]
WHY = "The second answer invents a date."


@pytest.fixture
def store(either_store: Store) -> Store:
    return either_store


def _train(store: Store, count: int) -> None:
    items = [make_item(f"t{n}", kind="training", known_strength=-2, why=WHY) for n in range(count)]
    load_items(store, items, QueueSection())


def test_training_comes_first_and_teaches_on_the_sides_that_were_shown(
    store: Store, account: Account, load: Load, clock: Clock
) -> None:
    load(4, overlap=3)
    _train(store, 6)
    queue, sides = Queue(store, QueueSection(lease_seconds=60), clock=clock), set()
    for name in ("ann", "bea"):
        who = account(name)
        for number in range(1, 7):
            card = open_card(queue, who)
            first_on_the_left = card.left.text.startswith("first")
            sides.add(first_on_the_left)
            assert card.lesson == Lesson(-2 if first_on_the_left else 2, WHY, number, 6)
            label(queue, who)
        assert open_card(queue, who).lesson is None
        assert queue.progress(who).mine == 0
    assert sides == {True, False}
    _train(store, 8)  # two more: they come before the next new pair
    clock.now += 61
    assert open_card(queue, who).item_id == "t6"
    assert open_card(queue, account("cid")).item_id == "t0"


def test_a_training_card_that_was_left_comes_back_and_can_be_undone(
    store: Store, account: Account, load: Load, clock: Clock
) -> None:
    load(3)
    _train(store, 2)
    queue, ann = Queue(store, QueueSection(lease_seconds=60), clock=clock), account("ann")
    first = open_card(queue, ann)
    ahead = queue.ahead(ann)
    assert isinstance(ahead, Card)
    assert (first.item_id, ahead.item_id) == ("t0", "t1")
    clock.now += 61
    assert open_card(queue, ann).item == first.item
    label(queue, ann)
    again = queue.undo(ann, client_key="take-it-back")
    assert again is not None
    assert (again.item, again.lesson) == (first.item, first.lesson)


def test_training_counts_nowhere(store: Store, account: Account, load: Load, clock: Clock) -> None:
    load(2, overlap=2)
    _train(store, 5)
    queue = Queue(store, QueueSection(lease_seconds=60), clock=clock)
    for name in ("ann", "bea"):
        who = account(name)
        for _ in range(7):
            label(queue, who, strength=1)
    found = survey(store, simulated=False, now=clock.now, resamples=0)
    assert (found.items, found.given, found.choices["compared"]) == (2, 4, 4)
    assert {row.name: (row.judged, row.gold.cases, row.others.cases) for row in found.rows} == {
        "ann": (2, 0, 2),
        "bea": (2, 0, 2),
    }
    exported = preferences(store, ExportSection(drop_ties=False))
    assert len(exported.preferences) == 2
    assert exported.counts["judgements"] == 4


def test_simulated_annotators_are_not_trained(store: Store, account: Account, load: Load) -> None:
    load(1)
    _train(store, 1)
    queue = Queue(store, QueueSection(lease_seconds=60))
    assert open_card(queue, account("machine", simulated=True)).item_id == "i0"


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "training", "known_strength": 1},
        {"kind": "training", "why": WHY},
        {"why": WHY, "known_strength": 1},
        {"kind": "gold"},
    ],
)
def test_half_of_a_training_item_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="training"):
        make_item("t", **fields)
