"""Spot checks in PPO: without labels they change nothing; labels against the policy pause it; it resumes."""

import json
from pathlib import Path

import pytest

import ppo.people.spot_checks as module
import ppo.people.store as store_commands
from annotate.__main__ import main as annotate_main
from annotate.config import QueueSection
from annotate.labels.notices import notices
from annotate.queue.rules import Card, Queue, Submission
from annotate.store.database import Store
from ppo.config import PpoConfig
from ppo.people.verdict import decide
from ppo.train import train
from tests.conftest import load_phase
from tests.ppo.conftest import ppo_values
from tests.ppo.guard.conftest import same_adapters
from tests.ppo.guard.test_rollouts import stopped_and_resumed
from workbench.run.checkpoints import checkpoint_steps
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder


class Page:
    """Stands for annotate's command: in this process, with people who answer each pair as soon as it is there."""

    def __init__(self, folder):
        self.folder, self.away, self.answers = folder, 0, None
        """Commands that fail, and who wins, if anybody judges."""
        self.loads = []
        """Per command, the ids in its file."""

    @property
    def store(self):
        return Store.open(self.folder / "labels.sqlite", durable=False)

    def command(self, words):
        if "--dry-run" in words:
            return
        if self.away:
            self.away -= 1
            raise WorkbenchError("the store", "is away")
        assert annotate_main(list(words)) == 0
        self.loads.append([json.loads(line)["id"] for line in Path(words[2]).read_text().splitlines()])
        if self.answers is not None:
            self.label(Path(words[2]).with_name("checks.jsonl"))

    def label(self, checks):
        """One person judges what is open: the policy wins or loses."""
        rows = [json.loads(line) for line in checks.read_text().splitlines()]
        policy = {
            item["id"]: item["responses"][position]["text"].strip()
            for row in rows
            for item, position in zip(row["items"], row["positions"], strict=True)
        }
        store = self.store
        with store.write() as transaction:
            if transaction.annotator("ann") is None:
                transaction.add_annotator("ann", "annotator", 0.0, simulated=False)
            ann = transaction.annotator("ann")
        queue = Queue(store, QueueSection())
        while isinstance(card := queue.next(ann), Card):
            left = card.left.text.strip() == policy[card.item_id]
            strength = -1 if left == (self.answers == "wins") else 1  # below 0: the left answer is better
            queue.submit(ann, Submission(card.item, "compared", f"key-{card.item_id}", strength=strength))
        store.close()


@pytest.fixture
def page(tmp_path, monkeypatch):
    made = Page(tmp_path)
    monkeypatch.setattr(store_commands, "annotate", made.command)
    return made


@pytest.fixture
def configure(tmp_path, sft_run, reward_run, prompt_file, page):
    """Reads a small configuration with spot checks: folder, then `a.b=value` overrides."""
    (tmp_path / "annotate.yaml").write_text(f"store: {{url: {tmp_path / 'labels.sqlite'}}}\n")

    def configured(name, *overrides):
        values = ppo_values(tmp_path / name, sft_run, reward_run, prompt_file)
        values["evaluation"] = {"every": 0, "prompts": 2}
        values["spot_checks"] = {"annotate": str(tmp_path / "annotate.yaml"), "every": 1, "pairs": 6}
        return load_phase(PpoConfig, tmp_path / f"{name}.yaml", values, *overrides)

    return configured


def metrics_of(run, *, people=False):
    """Metrics without what a clock measures, and without or only those of people."""
    rows = [{k: v for k, v in row.items() if not k.startswith(("seconds", "speed/"))} for row in run.read_metrics()]
    return [row for row in rows if ("people/judgements" in row) == people]


def rising(*arguments, first_score, **options):
    """The verdict if the reward rose from the start: in so short a run it may fall."""
    return decide(*arguments, first_score=-9.0, **options)


@pytest.mark.slow
def test_without_labels_nothing_changes_and_neither_a_store_that_is_away_nor_a_kill_loses_a_pair(
    configure, page, monkeypatch
):
    alone = train(configure("alone", "spot_checks.annotate=null"), resume=False)
    assert not (alone.path / "people").exists()
    page.away = 3
    asked = stopped_and_resumed(configure("asked"), monkeypatch, in_iteration=4)
    assert same_adapters(asked.adapter, alone.adapter)
    assert metrics_of(asked) == metrics_of(alone)
    assert {row["people/judgements"] for row in metrics_of(asked, people=True)} == {0.0}
    assert [warning["kind"] for warning in asked.record()["warnings"]].count("label store") == 1
    rows = [json.loads(line) for line in (asked.path / "people/checks.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows] == [1, 2, 3, 4, 5]
    assert page.loads[-1] == [item["id"] for row in rows for item in row["items"]]
    with page.store.read() as transaction:
        assert transaction.totals(simulated=False)[0] == len(set(page.loads[-1])) == len(page.loads[-1])
    assert {len(row["items"]) for row in rows} <= set(range(2, 7))
    assert all(sum(not sure for sure in row["surest"]) == 2 for row in rows)
    assert any(any(row["surest"]) for row in rows)
    assert {position for row in rows for position in row["positions"]} == {0, 1}


@pytest.mark.slow
def test_people_pause_a_run_which_goes_on_if_it_is_told_to(configure, page, monkeypatch, capsys):
    monkeypatch.setattr(module, "decide", rising)
    page.answers = "losses"
    with pytest.raises(WorkbenchError, match=r"paused in iteration 3: from iteration 1 on, people preferred") as error:
        train(configure("run"), resume=False)
    run = RunFolder(page.folder / "run")
    assert "--resume spot_checks.pause=false" in str(error.value)
    assert "the policy exploits the reward model" in str(error.value)
    assert (run.record()["status"], run.record()["people"]["paused_at"]) == ("paused", 3)
    assert checkpoint_steps(run.checkpoints) == [2, 3]
    with page.store.read() as transaction:
        assert [notice.text[:21] for notice in notices(transaction)] == ["paused in iteration 3"]
        judged = transaction.totals(simulated=False)[2]
    (newest,) = metrics_of(run, people=True)[-1:]
    assert (newest["step"], newest["people/win_rate"], newest["people/low"]) == (3, 0.0, 0.0)
    assert newest["people/judgements"] < judged, "the pairs of this iteration were judged after the look"
    assert newest["people/evidence"] >= 20
    with pytest.raises(WorkbenchError, match="is not finished"):
        run.require_finished()
    with pytest.raises(WorkbenchError, match="paused in iteration 3"):  # the labels are still there
        train(configure("run"), resume=True)

    resumed = train(configure("run", "spot_checks.pause=false"), resume=True)
    assert resumed.record()["status"] == "finished"
    assert "People's spot checks paused it in iteration 3." in (resumed.path / "README.md").read_text()
    with page.store.read() as transaction:
        assert not notices(transaction), "the run goes on"
        items, _, given = transaction.totals(simulated=False)
    rows = [json.loads(line) for line in (run.path / "people/checks.jsonl").read_text().splitlines()]
    asked = [item["id"] for row in rows for item in row["items"]]
    assert len(set(asked)) == len(asked) == items == given, "each pair was loaded and judged once"
    newest = run.read_people()[-1]["checks"][-1]
    assert newest["random"]["judged"] + newest["surest"]["judged"] == newest["asked"] == len(rows[-1]["items"])
    page.answers = None
    alone = train(configure("alone", "spot_checks.annotate=null"), resume=False)
    assert same_adapters(resumed.adapter, alone.adapter), "neither labels nor the pause changed what was learnt"


def test_what_cannot_work_is_said_at_once(configure, tmp_path):
    for change, said in (
        ("spot_checks.every=6", r"spot_checks\.every: is 6, so that a run of 6 iterations has no check"),
        ("spot_checks.pairs=9", r"spot_checks\.pairs: is 9, but a rollout has 8 prompts"),
        (f"spot_checks.annotate={tmp_path}/labels.sqlite", r"spot_checks\.annotate: .* is not a YAML file"),
    ):
        with pytest.raises(WorkbenchError, match=said):
            train(configure("bad", change), resume=False)
