"""Waiting for the labels of a round, and what the page says about it."""

import pytest

from annotate.config import AnnotateConfig, PairsSection, QueueSection, StoreSection
from annotate.intake.items import load_items
from annotate.queue.progress import RoundProgress, round_progress
from annotate.queue.rules import Queue, Submission
from annotate.store.database import Store
from annotate.wait import wait_for_labels
from tests.annotate.conftest import make_item
from workbench.run.errors import WorkbenchError


def label(store, who, number):
    """One person labels so many items."""
    queue = Queue(store, QueueSection())
    for _ in range(number):
        card = queue.next(who)
        queue.submit(who, Submission(card.item, "compared", f"key-{card.item_id}-{who.name}", strength=1))


@pytest.mark.parametrize("simulated", [False, True])
def test_only_labels_of_people_in_this_round_count(tmp_path, simulated, capsys):
    path = tmp_path / "labels.sqlite"
    store = Store.open(path, durable=False)
    with store.write() as transaction:
        transaction.add_annotator("ann", "annotator", 0.0, simulated=simulated)
        (ann,) = transaction.annotators()
        assert round_progress(transaction) is None
    old = [make_item(f"old{n}").model_copy(update={"round": 1, "priority": 9.0}) for n in range(2)]
    new = [make_item(f"new{n}").model_copy(update={"round": 2}) for n in range(6)]
    load_items(store, [*old, *new], QueueSection(overlap=1))
    config = AnnotateConfig(
        store=StoreSection(url=str(path)), pairs=PairsSection(round=2), queue=QueueSection(overlap=1)
    )
    label(store, ann, 2)  # the items of the earlier round
    seen, looks = [], []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) > 3:
            raise TimeoutError
        with store.read() as transaction:
            seen.append(round_progress(transaction))
        label(store, ann, 2)

    if simulated:
        with pytest.raises(TimeoutError):
            wait_for_labels(config, labels=3, rounds=5, sleep=sleep)
        assert {progress.to_go for progress in seen} == {3}
        return
    wait_for_labels(config, labels=3, rounds=5, sleep=sleep)
    assert seen == [RoundProgress(2, 5, 3), RoundProgress(2, 5, 1)]
    with store.read() as transaction:
        assert round_progress(transaction) == RoundProgress(2, 5, 0)
    assert "round 2 of 5 has its 3 labels" in capsys.readouterr().out
    wait_for_labels(config, labels=3, rounds=5, sleep=sleep)  # at once, when it is started again
    assert len(looks) == 2


def test_the_store_is_closed_however_the_waiting_ends(tmp_path, monkeypatch):
    config = AnnotateConfig(store=StoreSection(url=str(tmp_path / "labels.sqlite")), queue=QueueSection(overlap=1))
    store = Store.open(tmp_path / "labels.sqlite", durable=False)
    closed, close = [], Store.close
    monkeypatch.setattr(Store, "close", lambda store: (closed.append(store.place), close(store)))
    with pytest.raises(WorkbenchError, match="has no pair of round 0"):
        wait_for_labels(config, labels=3, rounds=5)
    assert len(closed) == 1
    load_items(store, [make_item("new")], QueueSection(overlap=1))

    def interrupted(seconds):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wait_for_labels(config, labels=1, rounds=5, sleep=interrupted)
    assert len(closed) == 2


def test_a_round_with_fewer_pairs_than_labels_ends_when_all_are_labelled(tmp_path, capsys):
    path = tmp_path / "labels.sqlite"
    store = Store.open(path, durable=False)
    with store.write() as transaction:
        transaction.add_annotator("ann", "annotator", 0.0, simulated=False)
        (ann,) = transaction.annotators()
    config = AnnotateConfig(store=StoreSection(url=str(path)), queue=QueueSection(overlap=1))
    with pytest.raises(WorkbenchError, match="has no pair of round 0"):
        wait_for_labels(config, labels=3, rounds=5)
    load_items(store, [make_item(f"new{n}") for n in range(2)], QueueSection(overlap=1))
    wait_for_labels(config, labels=3, rounds=5, sleep=lambda seconds: label(store, ann, 2))
    with store.read() as transaction:
        assert round_progress(transaction) == RoundProgress(0, 5, 0)
    assert "has only 2 pairs; waiting for a label of each" in capsys.readouterr().out
