import json
from collections.abc import Callable
from pathlib import Path

import pytest

from annotate.config import ExportSection, QueueSection
from annotate.intake.items import load_items
from annotate.labels.export import EDITED, export, preferences
from annotate.labels.raw_export import export_raw
from annotate.labels.review import adjudicate
from annotate.people.accounts import set_state
from annotate.queue.rules import Card, Queue, Submission
from annotate.queue.submission import Span
from annotate.store.database import Store
from annotate.store.statements import Annotator
from tests.annotate.conftest import make_item
from workbench.data.readers import read_demonstrations, read_preferences, read_rated_answers
from workbench.data.rules import RowRules
from workbench.run.errors import WorkbenchError

Account = Callable[..., Annotator]


@pytest.fixture
def judge(store: Store, account: Account) -> Callable[..., None]:
    """Judge one item: by name of annotator, strength for its second answer, or another choice."""
    queue = Queue(store, QueueSection(lease_seconds=60))
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
    return export(store, ExportSection(**{"out": str(out), "heldout_share": 0.0, **changes}))  # type: ignore[arg-type]


def test_records_are_read_by_the_phases_that_follow(store: Store, judge: Callable[..., None], tmp_path: Path) -> None:
    items = [make_item(name, round=2) for name in ("a", "b", "c", "d", "e")]
    load_items(store, items, QueueSection(overlap=2, overlap_share=1))
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


def test_reasons_and_spans_are_in_the_record_of_their_answers(store: Store, account: Account, tmp_path: Path) -> None:
    load_items(store, [make_item("a")], QueueSection(overlap=3, overlap_share=1))
    with store.write() as transaction:
        transaction.offer_reasons(["wrong fact", "unsafe"])
    queue = Queue(store, QueueSection(lease_seconds=60))
    for name in ("ann", "bea", "cid"):
        who = account(name)
        card = queue.next(who)
        assert isinstance(card, Card)
        second = int(card.answers[1].text == "second answer")  # where the item's second answer stands
        spans = (Span(1 - second, 0, 5, "wrong fact"), *([Span(second, 7, 13, "unsafe")] if name == "bea" else []))
        strength = 2 if second else -2
        submission = Submission(
            card.item, "compared", f"key-of-{name}", strength=strength, spans=spans, reasons=("unsafe",)
        )
        queue.submit(who, submission)
    _export(store, tmp_path / "out.jsonl")
    (record,) = read_preferences(tmp_path / "out.jsonl")
    assert record.reasons == ("unsafe", "unsafe", "unsafe")
    assert [(span.answer, span.start, span.end, span.label) for span in record.spans] == [
        ("chosen", 7, 13, "unsafe"),
        *[("rejected", 0, 5, "wrong fact")] * 3,
    ]
    assert record.rejected_text[0:5] == "first"
    _export(store, tmp_path / "single.jsonl", resolve="single")
    assert [len(record.spans) for record in read_preferences(tmp_path / "single.jsonl")] == [1, 2, 1]


def test_a_span_outside_its_answer_is_a_bad_row(store: Store, judge: Callable[..., None], tmp_path: Path) -> None:
    load_items(store, [make_item("a")], QueueSection(overlap=1, overlap_share=0))
    judge("a", ann=2)
    out = tmp_path / "out.jsonl"
    _export(store, out)
    record = json.loads(out.read_text(encoding="utf-8"))
    record["spans"] = [{"answer": "chosen", "start": 3, "end": 14, "label": "unsafe"}]
    out.write_text(json.dumps(record) + "\n", encoding="utf-8")
    with pytest.raises(WorkbenchError, match=r"3 … 14 of the chosen answer, which has 13 characters"):
        read_preferences(out)


def test_ties_may_be_kept_without_weight(store: Store, judge: Callable[..., None], tmp_path: Path) -> None:
    load_items(store, [make_item(f"i{n}") for n in range(20)], QueueSection(overlap=1, overlap_share=1))
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
    load_items(store, [make_item("a")], QueueSection(overlap=1, overlap_share=1))
    judge("a", ann=3, sim=-3)
    for who, chosen in (("people", "second answer"), ("simulated", "first answer")):
        _export(store, tmp_path / "out.jsonl", who=who)
        assert [record.chosen_text for record in read_preferences(tmp_path / "out.jsonl")] == [chosen]


def test_the_split_never_crosses_a_group_and_keeps_its_share(store: Store, judge: Callable[..., None]) -> None:
    items = [make_item(f"i{n}-{k}", f"first {k}", "second answer", group=f"g{n}") for n in range(80) for k in (0, 1)]
    load_items(store, items, QueueSection(overlap=1, overlap_share=1))
    for item in items:
        judge(item.id, ann=1)
    records = preferences(store, ExportSection(heldout_share=0.3, seed=1)).preferences
    splits: dict[str, set[str | None]] = {}
    for record in records:
        splits.setdefault(record.group, set()).add(record.split)
    assert all(len(split) == 1 for split in splits.values())
    heldout = sum(split == {"heldout"} for split in splits.values()) / 80
    assert heldout == pytest.approx(0.3, abs=0.2)  # 4 standard deviations


def _submit(store: Store, who: Annotator, **changes: object) -> None:
    """Answer the annotator's next card."""
    queue = Queue(store, QueueSection(lease_seconds=60))
    card = queue.next(who)
    assert isinstance(card, Card)
    place = changes.pop("edit_of", None)
    if place is not None:
        changes["edited_response"] = next(n for n, answer in enumerate(card.answers) if answer.text == place)
    if "ranks" in changes:
        ranks: dict[str, int] = changes.pop("ranks")  # type: ignore[assignment]
        changes["ranking"] = tuple(ranks[answer.text] for answer in card.answers)
    if "for_second" in changes:
        strength = int(changes.pop("for_second"))  # type: ignore[call-overload]
        changes["strength"] = -strength if card.left.text == "second answer" else strength
    queue.submit(who, Submission(card.item, client_key=f"{who.name}-{card.item_id}-key", **changes))  # type: ignore[arg-type]


def test_an_improved_answer_is_a_demonstration_and_two_pairs(store: Store, account: Account, tmp_path: Path) -> None:
    load_items(store, [make_item("a")], QueueSection(overlap=1, overlap_share=1))
    _submit(store, account("ann"), choice="compared", for_second=2, edited_text="better yet", edit_of="second answer")
    out, demonstrations = tmp_path / "out.jsonl", tmp_path / "demonstrations.jsonl"
    counts = export(store, ExportSection(out=str(out), heldout_share=0.0, demonstrations=str(demonstrations)))
    assert (counts["exported"], counts["edited"]) == (1, 2)
    pairs = [(record.chosen_text, record.rejected_text, record.resolution) for record in read_preferences(out)]
    assert pairs == [
        ("second answer", "first answer", "majority"),
        ("better yet", "first answer", "edited"),
        ("better yet", "second answer", "edited"),
    ]
    records = read_preferences(out)
    assert {record.group for record in records} == {"group-a"}
    assert {record.split for record in records} == {"train"}
    assert [record.chosen_run for record in records[1:]] == [EDITED, EDITED]
    (demonstration,) = read_demonstrations(demonstrations)
    assert (demonstration.response, demonstration.prompt[-1].content) == ("better yet", "Question a?")
    assert _export(store, out, edits=False)["edited"] == 0


def test_an_improved_answer_that_was_the_worse_one_is_not_set_above_the_other(
    store: Store, account: Account, tmp_path: Path
) -> None:
    load_items(store, [make_item("a")], QueueSection(overlap=1, overlap_share=1))
    _submit(store, account("ann"), choice="compared", for_second=-1, edited_text="mended", edit_of="second answer")
    _export(store, tmp_path / "out.jsonl")
    pairs = [(record.chosen_text, record.rejected_text) for record in read_preferences(tmp_path / "out.jsonl")]
    assert pairs == [("first answer", "second answer"), ("mended", "second answer")]


def test_flagged_items_stay_out_until_a_reviewer_decides(store: Store, account: Account, tmp_path: Path) -> None:
    load_items(store, [make_item("a"), make_item("b"), make_item("c")], QueueSection(overlap=1, overlap_share=1))
    who = account("ann")
    for flag in ("pii", "unsafe", None):
        _submit(store, who, choice="compared", for_second=1, flag=flag)
    counts = _export(store, tmp_path / "out.jsonl")
    assert (counts["exported"], counts["flagged"]) == (2, 1)
    assert _export(store, tmp_path / "out.jsonl", drop_flags=())["exported"] == 3
    assert _export(store, tmp_path / "out.jsonl", drop_flags=("pii", "unsafe"))["exported"] == 1
    adjudicate(store, who, 1, "compared", strength=-2)
    assert _export(store, tmp_path / "out.jsonl")["exported"] == 3
    assert read_preferences(tmp_path / "out.jsonl")[0].chosen_text == "first answer"
    adjudicate(store, who, 1, "left_out")
    assert _export(store, tmp_path / "out.jsonl")["left_out"] == 1


def test_a_ranking_becomes_pairs_of_one_group(store: Store, account: Account, tmp_path: Path) -> None:
    item = make_item("a")
    third = item.responses[0].model_copy(update={"id": "c", "text": "third answer"})
    ranked = item.model_copy(update={"responses": (*item.responses, third)})
    load_items(store, [ranked], QueueSection(overlap=2, overlap_share=1, compare="ranking"))
    for name, ranks in (("ann", (3, 1, 2)), ("bea", (2, 1, 2))):
        texts = ("first answer", "second answer", "third answer")
        _submit(store, account(name), choice="ranked", ranks=dict(zip(texts, ranks, strict=True)))
    counts = _export(store, tmp_path / "out.jsonl")
    assert (counts["exported"], counts["judgements"]) == (3, 6)
    records = read_preferences(tmp_path / "out.jsonl")
    assert [(r.chosen_text, r.rejected_text, r.strength, r.agreement) for r in records] == [
        ("second answer", "first answer", 1.5, 1.0),
        ("third answer", "first answer", 0.5, 0.75),
        ("second answer", "third answer", 1.0, 1.0),
    ]
    assert {record.group for record in records} == {"group-a"}
    assert [record.id for record in records] == ["a:0-1", "a:0-2", "a:1-2"]


def test_gold_items_and_removed_annotators_are_no_data(
    store: Store, judge: Callable[..., None], tmp_path: Path
) -> None:
    load_items(store, [make_item("a"), make_item("g", known_strength=2)], QueueSection(overlap=2, overlap_share=1))
    judge("a", ann=3, bea=-3)
    assert preferences(store, ExportSection()).counts["ties"] == 1
    set_state(store, "bea", "removed")
    (record,) = preferences(store, ExportSection()).preferences
    assert (record.chosen_text, record.annotators) == ("second answer", ("ann",))
    assert preferences(store, ExportSection()).counts["not_judged"] == 0


def test_rated_answers_hold_what_pairs_cannot(store: Store, judge: Callable[..., None], tmp_path: Path) -> None:
    load_items(store, [make_item(name) for name in ("a", "b", "c")], QueueSection(overlap=1))
    judge("a", ann=2)
    judge("b", ann="both_bad")
    judge("c", ann=0)
    out, answers = tmp_path / "preferences.jsonl", tmp_path / "answers.jsonl"
    _export(store, out, answers=str(answers), heldout_share=0.5)
    assert [record.id for record in read_preferences(out)] == ["a"]
    read = read_rated_answers(answers, RowRules())
    assert [(answer.id, answer.desirable, answer.weight) for answer in read] == [
        ("a~0", False, 1.0),
        ("a~1", True, 1.0),
        ("b~0", False, 1.0),
        ("b~1", False, 1.0),
    ]
    (pair,) = read_preferences(out)
    assert {answer.split for answer in read if answer.group == pair.group} == {pair.split}
    assert read[1].response == pair.chosen_text
    rows = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
    assert rows[2]["completion"] == [{"role": "assistant", "content": "first answer"}]
    assert rows[2]["label"] is False


@pytest.mark.parametrize("end", ["", "-wal", ".version-1"])
def test_an_export_never_replaces_the_store(
    store: Store, judge: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    load_items(store, [make_item("a")], QueueSection())
    judge("a", ann=3)
    assert store.path is not None
    place = store.path.with_name(store.path.name + end)
    place.touch()
    before = place.read_bytes()
    link = tmp_path / "link.jsonl"
    link.symlink_to(place)
    monkeypatch.chdir(place.parent)
    for out in (place, Path(place.name), link):
        for write in (_export, export_raw):
            with pytest.raises(WorkbenchError, match="is one of the inputs, and would be overwritten"):
                write(store, out)
    with pytest.raises(WorkbenchError, match="is one of the inputs"):
        _export(store, tmp_path / "preferences.jsonl", answers=str(place))
    assert place.read_bytes() == before
    assert not (tmp_path / "preferences.jsonl").exists()


def test_each_file_of_an_export_has_a_name_of_its_own(store: Store, judge: Callable[..., None], tmp_path: Path) -> None:
    load_items(store, [make_item("a")], QueueSection())
    judge("a", ann=3)
    out = tmp_path / "o.jsonl"
    with pytest.raises(WorkbenchError) as error:
        _export(store, out, answers=str(out), demonstrations=str(out))
    for key in ("export.answers", "export.demonstrations"):
        assert f"would be written twice: for export.out and for {key}" in str(error.value)
    assert not out.exists()
