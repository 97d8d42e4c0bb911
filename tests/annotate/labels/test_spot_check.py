"""Spot checks of a training run: loaded once, judged once, kept out of exports; and the notice to the lead."""

import json

import pytest

from annotate.__main__ import main
from annotate.config import ExportSection, QueueSection
from annotate.labels.export import preferences
from annotate.labels.notices import notices
from annotate.labels.review import adjudicate
from annotate.queue.rules import Queue
from tests.annotate.conftest import label, make_item
from tests.conftest import write_jsonl
from workbench.run.errors import WorkbenchError


@pytest.fixture
def check(tmp_path, store):
    """Runs the command on a file of so many pairs, and returns the judgements that it wrote."""
    config = tmp_path / "annotate.yaml"
    config.write_text(f"store: {{url: {store.path}}}\nqueue: {{overlap: 3, overlap_share: 1.0}}\n")

    def checked(number, *more):
        items = [make_item(f"s{n}").model_dump(mode="json") for n in range(number)]
        file, out = write_jsonl(tmp_path / "items.jsonl", items), tmp_path / "out.jsonl"
        main(["spot-check", str(config), str(file), "--run", "demo/ppo", "--out", str(out), *more])
        return [json.loads(line) for line in out.read_text().splitlines()]

    return checked


def test_pairs_are_loaded_once_and_judged_once(check, store, account, capsys):
    assert check(2) == []
    ann, bea, machine = account("ann"), account("bea"), account("machine", simulated=True)
    queue = Queue(store, QueueSection())
    label(queue, machine)  # a machine is none of the people
    label(queue, ann)
    rows = check(3)
    assert "1 new, 2 known; 1 of 3 pairs are judged" in capsys.readouterr().out
    for _ in range(2):
        label(queue, bea)
    assert queue.next(ann).__class__.__name__ == "Nothing", "the overlap of the queue does not hold for spot checks"
    assert check(3)[:1] == rows
    assert [row["item"] for row in check(3)] == ["s0", "s1", "s2"]
    assert {abs(row["strength"]) for row in check(3)} == {1}
    with store.read() as transaction:
        assert transaction.totals(simulated=False)[0] == 3
    assert check(3, "export.who=simulated")[0]["item"] == "s0"
    assert len(check(3, "export.who=simulated")) == 1


def test_they_are_exported_only_by_name(check, store, account):
    check(1)
    label(Queue(store, QueueSection()), account("ann"))
    assert preferences(store, ExportSection()).preferences == []
    assert len(preferences(store, ExportSection(campaign="spot checks of demo/ppo")).preferences) == 1


def test_a_reviewer_has_the_last_word(check, store, account):
    check(2)
    queue, ann = Queue(store, QueueSection()), account("ann")
    first, second = label(queue, ann), label(queue, ann)
    adjudicate(store, ann, first, "compared", strength=-3)
    adjudicate(store, ann, second, "left_out")
    assert [(row["item"], row["strength"]) for row in check(2)] == [("s0", -3)]


def test_a_notice_stays_until_it_is_taken_back(check, store, capsys):
    check(1, "--notice", "people <b>prefer</b> the start")
    check(1)
    with store.read() as transaction:
        assert [(notice.run, notice.text) for notice in notices(transaction)] == [
            ("demo/ppo", "people <b>prefer</b> the start")
        ]
    check(1, "--notice", "")
    with store.read() as transaction:
        assert not notices(transaction)
        assert [event["detail"]["text"] for event in transaction.events() if event["kind"] == "notice"] == [
            "people <b>prefer</b> the start",
            "",
        ]


def test_the_judgements_never_replace_the_pairs_or_the_store(check, store, tmp_path):
    check(1)
    for out in (tmp_path / "items.jsonl", store.path):
        before = out.read_bytes()
        with pytest.raises(WorkbenchError, match="is one of the inputs, and would be overwritten"):
            check(1, "--out", str(out))
        assert out.read_bytes() == before
