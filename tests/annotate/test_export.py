from collections.abc import Callable
from pathlib import Path

import pytest

from annotate.export import EDITED, Rules, export, preferences
from annotate.items import load_items
from annotate.queue import Card, Queue, Submission
from annotate.statements import Annotator
from annotate.store import Store
from tests.annotate.conftest import make_item
from workbench.data.readers import read_preferences
from workbench.run.errors import WorkbenchError

Account = Callable[..., Annotator]


@pytest.fixture
def judge(store: Store, account: Account) -> Callable[..., None]:
    """Judge one item: by name of annotator, strength for its second answer, or another choice."""
    queue = Queue(store, lease_seconds=60)
    people: dict[str, Annotator] = {}

    def submit(item_id: str, **answers: int | str) -> None:
        for name, answer in answers.items():
            who = people.setdefault(name, people.get(name) or account(name, simulated=name.startswith("sim")))
            card = queue.next(who)
            assert isinstance(card, Card)
            assert card.item_id == item_id
            key = f"{name}-{item_id}-key"
            if isinstance(answer, str):
                queue.submit(who, Submission(card.item, answer, client_key=key))  # type: ignore[arg-type]
            else:
                shown = -answer if card.left.text == "second answer" else answer
                queue.submit(who, Submission(card.item, "compared", strength=shown, client_key=key))

    return submit


def _export(store: Store, out: Path, **changes: object) -> dict[str, int]:
    return export(store, out, Rules(**{"heldout_share": 0.0, **changes}))  # type: ignore[arg-type]


def test_records_are_read_by_the_phases_that_follow(store: Store, judge: Callable[..., None], tmp_path: Path) -> None:
    items = [make_item(name, round=2) for name in ("a", "b", "c", "d", "e")]
    load_items(store, items, overlap=2, overlap_share=1)
    judge("a", ann=3, bea=2)
    judge("b", ann=-1, bea=-2)
    judge("c", ann=1, bea=-1)
    judge("d", ann="both_bad", bea="both_bad")
    out = tmp_path / "preferences.jsonl"
    counts = _export(store, out)
    expected = {"exported": 2, "ties": 1, "both_bad": 1, "skipped": 0, "not_judged": 1, "heldout": 0}
    assert {name: counts[name] for name in expected} == expected
    assert (counts["judgements"], counts["edited"], counts["flagged"]) == (8, 0, 0)
    first, second = read_preferences(out)
    assert (first.chosen_text, first.rejected_text) == ("second answer", "first answer")
    assert (first.chosen_run, first.rejected_run, first.round) == ("runs/two", "runs/one", 2)
    assert (first.id, first.group, first.strength, first.agreement) == ("a", "group-a", 2.5, 1.0)
    assert (first.annotators, first.weight, first.split) == (("ann", "bea"), 1.0, "train")
    assert second.chosen_text == "first answer"
    with store.read() as transaction:
        assert transaction.events()[-1]["kind"] == "exported"


def test_ties_may_be_kept_without_weight(store: Store, judge: Callable[..., None], tmp_path: Path) -> None:
    load_items(store, [make_item(f"i{n}") for n in range(20)], overlap=1, overlap_share=1)
    for number in range(20):
        judge(f"i{number}", ann=0)
    assert _export(store, tmp_path / "out.jsonl", drop_ties=False)["exported"] == 20
    records = read_preferences(tmp_path / "out.jsonl")
    assert {(record.strength, record.weight) for record in records} == {(0.0, 0.0)}
    assert {record.chosen_text for record in records} == {"first answer", "second answer"}
    with pytest.raises(WorkbenchError, match="no comparison to export"):
        _export(store, tmp_path / "other.jsonl")
    assert not (tmp_path / "other.jsonl").exists()


def test_people_and_simulated_apart(store: Store, judge: Callable[..., None], tmp_path: Path) -> None:
    load_items(store, [make_item("a")], overlap=1, overlap_share=1)
    judge("a", ann=3, sim=-3)
    for who, chosen in (("people", "second answer"), ("simulated", "first answer")):
        _export(store, tmp_path / "out.jsonl", who=who)
        assert [record.chosen_text for record in read_preferences(tmp_path / "out.jsonl")] == [chosen]


def test_the_split_never_crosses_a_group_and_keeps_its_share(store: Store, judge: Callable[..., None]) -> None:
    items = [make_item(f"i{n}-{k}", f"first {k}", "second answer", group=f"g{n}") for n in range(150) for k in (0, 1)]
    load_items(store, items, overlap=1, overlap_share=1)
    for item in items:
        judge(item.id, ann=1)
    records = preferences(store, Rules(heldout_share=0.3, seed=1)).preferences
    splits: dict[str, set[str | None]] = {}
    for record in records:
        splits.setdefault(record.group, set()).add(record.split)
    assert all(len(split) == 1 for split in splits.values())
    heldout = sum(split == {"heldout"} for split in splits.values()) / 150
    assert heldout == pytest.approx(0.3, abs=0.15)  # 4 standard deviations
