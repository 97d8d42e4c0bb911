from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from annotate.arena.votes import save_vote
from annotate.campaign.battles import ARENA, OPENED, arena_item
from annotate.campaign.report import campaign_report
from annotate.campaign.start import campaign_names, start
from annotate.config import CampaignSection, ExportSection, QueueSection
from annotate.labels.export import export, preferences
from annotate.queue.rules import Nothing, Queue
from annotate.queue.submission import Refused, Submission
from annotate.store.database import Store
from annotate.store.statements import Annotator
from tests.annotate.arena.conftest import asked
from workbench.data.readers import read_preferences
from workbench.data.records import Response
from workbench.run.errors import WorkbenchError

Account = Callable[..., Annotator]
RUNS = ["runs/one", "runs/two"]
TURNS = asked("Where is it?", "Where is what?", "My parcel.")


def vote(store: Store, who: Annotator, battle: str, *, key: str = "", runs: Sequence[str] = RUNS, **given: Any) -> bool:
    values: dict[str, Any] = {"choice": "compared", "strength": -2, **given}
    texts = (values.pop("left", "In the post."), values.pop("right", "No idea."))
    answers = [
        Response(id=str(side), text=text, run=run, temperature=0.7)
        for side, (text, run) in enumerate(zip(texts, runs, strict=True))
    ]
    submission = Submission(item=0, client_key=key or f"key of {battle}", **values)
    return save_vote(store, who, arena_item(battle, TURNS, answers), submission)


def test_a_vote_is_an_item_and_a_judgement_that_trains(either_store: Store, tmp_path: Path) -> None:
    store = either_store
    with store.write() as transaction:
        transaction.add_annotator("ann", "annotator", 0.0)
        who = transaction.annotator("ann")
    assert who is not None
    assert vote(store, who, "b1", comment="clear", seconds=4.5)
    assert not vote(store, who, "b1", strength=3)  # the same key again: nothing more is stored
    with store.read() as transaction:
        (item,), (judgement,) = transaction.items(), transaction.current_judgements()
        answers = transaction.responses(item.id)
    assert (item.item_id, item.campaign, item.kind, item.overlap, item.done) == ("arena-b1", None, "ordinary", 1, 1)
    assert [(answer.text, answer.run) for answer in answers] == [("In the post.", RUNS[0]), ("No idea.", RUNS[1])]
    assert (judgement.choice, judgement.strength, judgement.comment, judgement.seconds) == (
        "compared",
        -2,
        "clear",
        4.5,
    )
    queue = Queue(store, QueueSection())
    assert isinstance(queue.next(who), Nothing)  # it is done
    assert queue.progress(who).mine == 1
    export(store, ExportSection(out=str(tmp_path / "preferences.jsonl")))
    (record,) = read_preferences(tmp_path / "preferences.jsonl")  # what `reward` reads
    assert record.prompt == TURNS
    assert (record.chosen_text, record.rejected_text, record.strength) == ("In the post.", "No idea.", 2)
    assert (record.chosen_run, record.rejected_run, record.annotators) == (*RUNS, ("ann",))


def test_conversations_that_begin_alike_are_one_group(store: Store, account: Account) -> None:
    who = account("ann")
    for battle in ("b1", "b2"):
        vote(store, who, battle)
    groups = {record.group for record in preferences(store, ExportSection()).preferences}
    assert len(groups) == 1


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"key": "another key"}, "voted"),
        ({"battle": "b2", "right": "In the post."}, "same_answers"),
        ({"battle": "b2", "strength": None}, "strength"),
        ({"battle": "b2", "choice": "both_bad", "strength": 1}, "strength"),
        ({"battle": "b2", "key": "short"}, "key"),
        ({"battle": "b2", "comment": "\x00"}, "characters"),
    ],
)
def test_what_is_no_vote_is_refused(store: Store, account: Account, given: dict[str, Any], why: str) -> None:
    who = account("ann")
    vote(store, who, "b1")
    with pytest.raises(Refused) as refused:
        vote(store, who, given.pop("battle", "b1"), **given)
    assert refused.value.why == why
    with pytest.raises(Refused, match="not_your_key"):
        vote(store, account("bea"), "b3", key="key of b1")
    with store.read() as transaction:
        assert len(transaction.items()) == 1


def opened(store: Store, *runs: str) -> None:
    with store.write() as transaction:
        transaction.add_event(OPENED, 0.0, runs=list(runs))


def test_votes_are_a_campaign(store: Store, account: Account) -> None:
    assert campaign_names(store) == []
    opened(store, *RUNS)
    assert campaign_names(store) == [ARENA]
    empty = campaign_report(store, ARENA)
    assert (empty.runs, empty.given, empty.ratings, empty.pairs[0].win_rate) == (tuple(RUNS), 0, (), None)
    who = account("ann")
    for number in range(6):
        vote(store, who, f"b{number}")
    vote(store, who, "tie", strength=0)
    vote(store, who, "bad", choice="both_bad", strength=None)
    vote(store, who, "turned", runs=RUNS[::-1], strength=3)  # the same run, now on the right
    report = campaign_report(store, ARENA)
    (pair,) = report.pairs
    assert pair.win_rate is not None
    assert (pair.own, pair.other, pair.judgements, pair.both_bad) == (*RUNS, 9, 1)
    assert pair.win_rate.mean == pytest.approx((7 + 2 * 0.5) / 9)
    assert report.ratings[0].value > 0 > report.ratings[1].value


def test_runs_that_never_met_are_rated_only_through_others(store: Store, account: Account) -> None:
    opened(store, "a", "b", "c", "d")
    who = account("ann")
    vote(store, who, "b1", runs=["a", "b"])
    vote(store, who, "b2", runs=["c", "d"])
    assert campaign_report(store, ARENA).ratings == ()
    vote(store, who, "b3", runs=["b", "c"])
    report = campaign_report(store, ARENA)
    assert len(report.ratings) == 4
    assert report.pairs[1].win_rate is None  # a and c


def test_no_campaign_takes_the_name_of_the_arena(store: Store) -> None:
    with pytest.raises(WorkbenchError, match="this one is the arena's"):
        start(store, CampaignSection(name=ARENA, runs=("a", "b")), [], lambda run, prompts: [])
