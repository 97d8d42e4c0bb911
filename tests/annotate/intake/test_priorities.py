import json
from collections.abc import Callable
from pathlib import Path

import pytest

from annotate.config import QueueSection
from annotate.intake.priorities import apply_priorities
from annotate.queue.rules import Queue
from annotate.queue.submission import Submission
from annotate.store.database import Store
from tests.conftest import write_jsonl
from workbench.run.errors import WorkbenchError


def stored(store: Store) -> dict[str, tuple[float, int]]:
    with store.read() as transaction:
        return {item.item_id: (item.priority, item.overlap) for item in transaction.items()}


def test_a_finished_item_opens_for_one_more_judgement_and_comes_first(
    store: Store, load: Callable[..., None], account: Callable, tmp_path: Path
) -> None:
    load(3)
    queue, first = Queue(store, QueueSection(lease_seconds=60)), account("first")
    for _ in range(3):
        card = queue.next(first)
        queue.submit(first, Submission(card.item, "compared", f"key-of-{card.item_id}", strength=1))
    lines = [{"id": "i2", "priority": 2.5, "again": True}, {"id": "i1", "priority": 0.5}, {"id": "x", "priority": 1}]
    path = write_jsonl(tmp_path / "priorities.jsonl", lines)
    assert str(apply_priorities(store, str(path))) == (
        "2 items have a new priority, 1 of them are asked about again; 1 items of the file are not in the store"
    )
    assert stored(store) == {"i0": (0, 1), "i1": (0.5, 1), "i2": (2.5, 2)}
    apply_priorities(store, str(path))
    assert stored(store)["i2"] == (2.5, 2), "reading the file again asks for no further judgement"
    assert queue.next(account("second")).item_id == "i2"


def test_two_answers_of_a_ranking_are_their_own_item_or_part_of_the_ranked_one(
    store: Store, load: Callable[..., None], tmp_path: Path
) -> None:
    load(1)
    load(1, prefix="j")
    load(1, prefix="j0:0-")  # as the store names pairs that it compares one by one
    lines = [
        {"id": "i0:0-2", "priority": 1},
        {"id": "i0:1-2", "priority": 3, "again": True},
        {"id": "j0:0-0", "priority": 2},
        {"id": "x:0-1", "priority": 1},
    ]
    applied = apply_priorities(store, str(write_jsonl(tmp_path / "p.jsonl", lines)))
    assert (applied.items, applied.again, applied.missing) == (2, 1, 1)
    assert {name: priority for name, (priority, _) in stored(store).items()} == {"i0": 3, "j0": 0, "j0:0-0": 2}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ({"id": "i0"}, "no priority"),
        ({"id": "i0", "priority": "high"}, "no priority"),
        ({"id": "i0", "priority": float("inf")}, "'priority' is inf"),
        ({"id": "i0", "priority": 10**400}, "'priority' is 1000"),
        ({"id": "i0", "priority": 1, "again": 2}, "'again' is 2"),
        ({"id": "elsewhere", "priority": 1}, "holds none of its 1 items"),
    ],
)
def test_a_bad_line_changes_nothing(
    store: Store, load: Callable[..., None], tmp_path: Path, line: dict, problem: str
) -> None:
    load(1)
    path = tmp_path / "priorities.jsonl"
    path.write_text(json.dumps(line) + "\n", encoding="utf-8")
    with pytest.raises(WorkbenchError, match=problem):
        apply_priorities(store, str(path))
    assert stored(store) == {"i0": (0, 1)}
