import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from annotate.campaign.report import Report, campaign_report, text_of
from annotate.campaign.scores import EVENT, newest_scores, score_campaign
from annotate.campaign.start import campaign_names, start
from annotate.config import CampaignSection, ExportSection, QueueSection
from annotate.intake.items import load_items
from annotate.labels.export import preferences
from annotate.labels.review import adjudicate
from annotate.queue.rules import Card, Queue, Submission
from annotate.store.database import Store
from annotate.store.statements import Annotator
from tests.annotate.conftest import make_item
from tests.conftest import write_jsonl
from workbench.data.hashing import unit_hash
from workbench.data.masking import masker_of
from workbench.data.records import Message, Prompt
from workbench.privacy.keys import ENVIRONMENT
from workbench.run.errors import WorkbenchError

ROOT = Path(__file__).parents[3]
Account = Callable[..., Annotator]
QUALITY = {"runs/good": 3, "runs/fair": 2, "runs/poor": 1}


def june(*runs: str, overlap: int = 1) -> CampaignSection:
    return CampaignSection(name="june", runs=runs, overlap=overlap)


def prompts(count: int) -> list[Prompt]:
    return [Prompt(id=f"p{n}", prompt=(Message(role="user", content=f"Question {n}?"),)) for n in range(count)]


def answers(run: str, asked: Sequence[Prompt]) -> list[str]:
    """A text that says how good it is; the good and the fair run say the same to every fourth prompt."""
    return [
        f"quality {3 if run == 'runs/fair' and n % 4 == 0 else QUALITY[run]} on {prompt.id}"
        for n, prompt in enumerate(asked)
    ]


def judge_all(store: Store, who: Annotator) -> int:
    """Prefer the better quality; returns how many were judged."""
    queue, made = Queue(store, QueueSection(lease_seconds=60)), 0
    while isinstance(card := queue.next(who), Card):
        strength = 2 if card.left.text.split()[1] < card.right.text.split()[1] else -2
        queue.submit(who, Submission(card.item, "compared", f"{who.name}-{card.item_id}"[-64:], strength=strength))
        made += 1
    return made


def test_a_campaign_from_start_to_report(store: Store, account: Account) -> None:
    started = start(store, june(*QUALITY), prompts(40), answers)
    # 30 prompts with three different answers, 10 with two: 30·3 + 10·1.
    assert (started.comparisons, started.identical, started.prompts) == (100, 10, 40)
    before = campaign_report(store, "june")
    assert (before.given, before.wanted, before.ratings) == (0, 100, ())
    assert before.pairs[0].win_rate is None
    assert "not judged yet" in text_of(before)
    assert judge_all(store, account("ann")) == 100
    report = campaign_report(store, "june")
    rates = {(pair.own, pair.other): pair.win_rate for pair in report.pairs}
    fair, poor = rates["runs/good", "runs/fair"], rates["runs/good", "runs/poor"]
    assert fair is not None
    assert poor is not None
    assert fair.mean == 0.875  # 30 prompts won, 10 tied
    assert fair.ties == pytest.approx(0.25)
    assert fair.low < fair.mean < fair.high
    assert poor.mean == 1
    order = [run for run, _ in sorted(zip(report.runs, report.ratings, strict=True), key=lambda pair: -pair[1].value)]
    assert order == list(QUALITY)
    assert text_of(report).splitlines()[-3].endswith("runs/good")


def test_nothing_on_the_card_tells_the_runs_apart(store: Store, account: Account) -> None:
    start(store, june(*QUALITY), prompts(30), answers)
    with store.read() as transaction:
        items, responses = transaction.items(), transaction.all_responses()
    assert {response.run for own in responses.values() for response in own} == {"june"}
    better_first = [responses[item.id][0].text > responses[item.id][1].text for item in items]
    assert 0.3 < np.mean(better_first) < 0.7
    assert not any("runs/" in item.item_id for item in items)


def test_judgements_of_a_campaign_are_no_preferences_unless_asked_for(store: Store, account: Account) -> None:
    load_items(store, [make_item("quality 9")], QueueSection(overlap=1, overlap_share=1, priority=-1))
    start(store, june(*list(QUALITY)[:2]), prompts(4), answers)
    queue, who = Queue(store, QueueSection(lease_seconds=60)), account("ann")
    while isinstance(card := queue.next(who), Card):
        queue.submit(who, Submission(card.item, "compared", f"{card.item_id}-key1", strength=1))
    assert [record.group for record in preferences(store, ExportSection()).preferences] == ["group-quality 9"]
    assert len(preferences(store, ExportSection(campaign="june")).preferences) == 3


def test_half_judged_the_win_rate_is_not_drawn_to_one_half(store: Store, account: Account) -> None:
    """Ties by the same answer count in proportion to what was judged."""
    start(store, june("runs/good", "runs/fair"), prompts(200), answers)
    judge_some(store, account("ann"), 15, better_side)  # of 150
    rate = campaign_report(store, "june").pairs[0].win_rate
    assert rate is not None
    assert rate.mean == pytest.approx(0.875, abs=0.08)


def score_all(store: Store, run: str, worth: dict[str, float]) -> None:
    """Store scores that depend on the quality that an answer states."""
    with store.write() as transaction:
        responses = transaction.all_responses()
        scores = {
            item.item_id: [worth[response.text.split()[1]] for response in responses[item.id]]
            for item in transaction.items()
        }
        transaction.add_event(EVENT, 0.0, name="june", run=run, scores=scores)


def test_a_reward_model_that_agrees_narrows_the_interval(store: Store, account: Account) -> None:
    start(store, june("runs/good", "runs/fair"), prompts(200), answers)
    judge_some(store, account("ann"), 60, random_side)  # of 150
    unscored = campaign_report(store, "june")
    assert unscored.pairs[0].powered is None
    assert "with a reward model" not in text_of(unscored)
    score_all(store, "runs/reward", {"3": 1.0, "2": 0.0, "1": -1.0})
    report = campaign_report(store, "june")
    found = report.pairs[0].powered
    assert report.reward_run == "runs/reward"
    assert found is not None
    assert found.pairs == 200
    assert 60 < found.judged < 100  # and as large a share of the prompts with equal answers
    assert found.human_only.mean == pytest.approx(report.pairs[0].win_rate.mean)  # type: ignore[union-attr]
    assert found.with_predictions.low < found.with_predictions.mean < found.with_predictions.high
    assert "with runs/reward (weight" in text_of(report)
    score_all(store, "runs/other", {"3": 0.0, "2": 0.0, "1": 0.0})  # the newest scores are used
    useless = campaign_report(store, "june").pairs[0].powered
    assert useless is not None
    assert useless.weight == 0
    assert useless.with_predictions == useless.human_only


def judge_some(store: Store, who: Annotator, number: int, side: Callable[[Card], int]) -> None:
    """Judge so many cards of the queue."""
    queue = Queue(store, QueueSection(lease_seconds=60))
    for _ in range(number):
        card = queue.next(who)
        assert isinstance(card, Card)
        queue.submit(who, Submission(card.item, "compared", f"{card.item_id}-key1", strength=side(card)))


def better_side(card: Card) -> int:
    """The better answer."""
    return 1 if card.left.text < card.right.text else -1


def random_side(card: Card) -> int:
    """The better answer three times in four."""
    better = better_side(card)
    return better if unit_hash(0, card.item_id) < 0.75 else -better


def test_pairs_are_handed_out_in_random_order(store: Store) -> None:
    start(store, june("runs/good", "runs/poor"), prompts(200), answers)
    with store.read() as transaction:
        order = [int(item.group_id[1:]) for item in transaction.items()]
    assert abs(np.corrcoef(order, range(200))[0, 1]) < 0.25


def test_both_bad_is_a_tie_and_a_reviewer_has_the_last_word(store: Store, account: Account) -> None:
    start(store, june("runs/good", "runs/poor", overlap=2), prompts(2), answers)
    queue = Queue(store, QueueSection(lease_seconds=60))
    for name in ("ann", "bea"):
        who = account(name)
        while isinstance(card := queue.next(who), Card):
            queue.submit(who, Submission(card.item, "both_bad", f"{name}-{card.item_id}"))
    (pair,) = campaign_report(store, "june").pairs
    assert pair.win_rate is not None
    assert (pair.win_rate.mean, pair.both_bad, pair.judgements) == (0.5, 4, 4)
    with store.read() as transaction:
        item = transaction.items()[0]
        texts = [response.text for response in transaction.responses(item.id)]
    good_is_second = texts[1].startswith("quality 3")
    adjudicate(store, account("rev"), item.id, "compared", strength=3 if good_is_second else -3)
    (pair,) = campaign_report(store, "june").pairs
    assert pair.win_rate is not None
    assert pair.win_rate.mean == 0.75  # one prompt won, one tied


def test_runs_that_say_the_same_everywhere_tie_without_being_asked(store: Store) -> None:
    def same(run: str, asked: Sequence[Prompt]) -> list[str]:
        return [prompt.id for prompt in asked]

    started = start(store, june("one", "other"), prompts(3), same)
    assert (started.comparisons, started.identical) == (0, 3)
    (pair,) = campaign_report(store, "june").pairs
    assert pair.win_rate is not None
    assert (pair.win_rate.mean, pair.win_rate.ties) == (0.5, 1)


def test_mistakes_are_explained(store: Store) -> None:
    with pytest.raises(WorkbenchError, match="two or more different runs"):
        start(store, june("one", "one"), prompts(1), answers)
    with pytest.raises(WorkbenchError, match="holds no prompt"):
        start(store, june("one", "other"), [], answers)
    start(store, june(*QUALITY), prompts(1), answers)
    assert campaign_names(store) == ["june"]
    with pytest.raises(WorkbenchError, match="was started before"):
        start(store, june(*QUALITY), prompts(1), answers)
    with pytest.raises(WorkbenchError, match="did you mean 'june'"):
        campaign_report(store, "junee")
    with pytest.raises(WorkbenchError, match="did you mean 'june'"):
        score_campaign(store, "junee", "runs/reward")


@pytest.fixture(scope="module")
def campaigned(tmp_path_factory: pytest.TempPathFactory, sft_run: Path, prompt_file: Path) -> Path:
    """The store of a campaign between a run, an adapter inside it, and a file of answers."""
    from annotate.__main__ import main
    from workbench.data.readers import read_prompts

    folder = tmp_path_factory.mktemp("campaign")
    written = folder / "people.jsonl"
    rows = [{"prompt": [m.model_dump() for m in p.prompt], "response": "By hand."} for p in read_prompts(prompt_file)]
    written.write_text("".join(json.dumps(row) + "\n" for row in rows))
    checkpoint = max((sft_run / "checkpoints").glob("step-*"), default=sft_run / "adapter")
    main([
        "campaign", "start", "configs/tiny/annotate.yaml", f"store.url={folder / 'labels.sqlite'}",
        f"campaign.runs=[{sft_run},{checkpoint},{written}]", f"campaign.prompts={prompt_file}", "campaign.number=6",
        "campaign.max_new_tokens=6", "campaign.temperature=1.0",
    ])  # fmt: skip
    return folder / "labels.sqlite"


@pytest.mark.slow
def test_runs_adapters_and_files_are_answered_from(campaigned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from annotate.__main__ import main

    store = Store.open(campaigned)
    report: Report = campaign_report(store, "campaign")
    assert report.prompts == 6
    assert report.wanted > 0
    # The newest checkpoint of a finished run holds the same weights: the same answers under the same seed.
    assert next(pair for pair in report.pairs if "people.jsonl" not in pair.other).identical == 6
    store.close()
    main(["campaign", "report", "configs/tiny/annotate.yaml", f"store.url={campaigned}"])
    assert "campaign 'campaign'" in capsys.readouterr().out


@pytest.mark.slow
def test_a_reward_run_scores_every_pair(campaigned: Path, reward_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from annotate.__main__ import main

    store = ["configs/tiny/annotate.yaml", f"store.url={campaigned}"]
    main(["campaign", "score", *store, "campaign", str(reward_run)])
    assert "pairs scored by" in capsys.readouterr().out
    main(["campaign", "report", *store, "--json"])
    (report,) = json.loads(capsys.readouterr().out)
    assert report["reward_run"] == str(reward_run)
    opened = Store.open(campaigned)
    with opened.read() as transaction:
        scored = newest_scores(transaction, "campaign")
        items = {item.item_id for item in transaction.items()}
    opened.close()
    assert scored is not None
    assert set(scored[1]) == items
    assert all(len(set(scores)) == 2 for scores in scored[1].values())


def test_answers_in_a_file_are_found_although_prompts_are_masked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("presidio_analyzer")
    from annotate.__main__ import main

    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "mask.key"))
    masker_of.cache_clear()
    monkeypatch.chdir(tmp_path)
    prompt = [{"role": "user", "content": "I am ann@example.org, where is my order?"}]
    write_jsonl(tmp_path / "prompts.jsonl", [{"id": "p", "prompt": prompt}])
    for name in ("one", "other"):
        write_jsonl(tmp_path / f"{name}.jsonl", [{"prompt": prompt, "response": f"Ask {name}@example.org."}])
    main([
        "campaign", "start", str(ROOT / "configs/tiny/annotate.yaml"), "store.url=labels.sqlite",
        "queue.mask_personal=[email]", "campaign.runs=[one.jsonl,other.jsonl]", "campaign.prompts=prompts.jsonl",
    ])  # fmt: skip
    store = Store.open(tmp_path / "labels.sqlite")
    with store.read() as transaction:
        (item,) = transaction.items()
        texts = [item.prompt, *(response.text for response in transaction.responses(item.id))]
    store.close()
    assert "@" not in str(texts)
    assert len((tmp_path / "labels.masked.jsonl").read_text().splitlines()) == 1 + 5, "each masked value"
    masker_of.cache_clear()
