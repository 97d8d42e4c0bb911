"""From evaluations and passports to the table and the page of a loop, on policies whose gold is known."""

import json
from dataclasses import asdict

import pytest
import yaml

from tests.conftest import load_phase
from tests.workbench.compare.test_results import evaluation
from tests.workbench.evaluate.test_report import Page
from workbench.data.readers import write_records
from workbench.data.records import Message, Preference
from workbench.evaluate.evaluation import Evaluation
from workbench.evaluate.statistics import Estimate
from workbench.evaluate.summary import parts_moved
from workbench.loop.config import LoopConfig
from workbench.loop.page import sentence, signed, write_results
from workbench.loop.plan import Round, plan
from workbench.loop.results import loop_result
from workbench.run.steps import Ledger

GAINS = (0, 1, 3)
"""Words that the policies of rounds 0, 1 and 2 add, each worth gold."""


def labelled(number, of_round):
    """A labelled pair."""
    return Preference(
        id=f"p{number}",
        group=f"g{number}",
        prompt=(Message(role="user", content=f"{number}?"),),
        chosen=(Message(role="assistant", content="a"),),
        rejected=(Message(role="assistant", content="b"),),
        round=of_round,
    )


def loop(folder, *, judged=True, judge=None):
    """A finished loop of two rounds: its evaluations, labels, passports and ledger."""
    with open("configs/tiny/loop.yaml", encoding="utf-8") as file:
        values = yaml.safe_load(file)
    values["loop"] |= {"out": str(folder), "rounds": 2}
    values["measure"]["judge"] = judge
    config = load_phase(LoopConfig, folder / "config.yaml", values)
    ledger = Ledger(folder / "steps.json")
    for step in plan(config):
        ledger.add(step, {"seconds": 10.0})
    for number, more in enumerate(GAINS):
        this = Round(config, number)
        this.policy.mkdir(parents=True)
        Evaluation("run", "ppo", 0, {}, policy=evaluation(more, 0, judged=judged)).save(this.evaluation)
        if number:
            write_records(this.labels, [labelled(n, 1 + n % number) for n in range(10 * number)])
            this.reward.mkdir()
            accuracy = asdict(Estimate(0.7, 0.6, 0.8, 20, 20))
            passport = {"outcome": "fail", "failed": ["ece"], "findings": {"accuracy": accuracy}}
            (this.reward / "passport.json").write_text(json.dumps(passport), encoding="utf-8")
    return config, ledger


def test_gains_are_over_the_same_prompts(tmp_path):
    config, ledger = loop(tmp_path)
    found = loop_result(config, ledger, 2)
    zero, one, two = found.rounds
    assert found.judge == "gold"
    assert (zero.gain, zero.verdict, zero.kl, zero.labels) == (None, None, None, 0)
    assert (one.labels, two.labels, two.new_labels) == (10, 20, 10)
    assert two.gain.mean == pytest.approx(two.quality.mean - zero.quality.mean)
    assert two.step_gain.mean == pytest.approx(two.quality.mean - one.quality.mean)
    assert 0 < two.step_gain.mean < two.gain.mean
    assert two.gain.low > 0
    assert two.verdict.failed == ["ece"]
    assert one.seconds == 70.0
    assert len(loop_result(config, ledger, 1).rounds) == 2


def test_files_and_lines(tmp_path):
    config, ledger = loop(tmp_path)
    lines = write_results(config, ledger, 2)
    assert lines[0].startswith("20 labels in 2 rounds: gold reward +")
    assert any("fail: ece" in line for line in lines)
    numbers = json.loads((tmp_path / "loop.json").read_text(encoding="utf-8"))
    assert [row["labels"] for row in numbers["rounds"]] == [0, 10, 20]
    text = (tmp_path / "loop.html").read_text(encoding="utf-8")
    Page(text)
    assert "2 of 2 rounds" in text
    assert "<svg" in text
    assert "<script" not in text


def test_without_gold_the_judge_counts_and_without_a_judge_nothing_is_compared(tmp_path):
    (tmp_path / "judge").mkdir()
    (tmp_path / "none").mkdir()
    found = loop_result(*loop(tmp_path / "judge", judged=False, judge="runs/judge"), 2)
    assert found.judge == "judge"
    assert found.rounds[2].gain is not None
    found = loop_result(*loop(tmp_path / "none", judged=False), 2)
    assert found.judge == "none"
    assert [each.quality for each in found.rounds] == [None] * 3
    assert "cannot be compared" in sentence(found) or "Set measure.judge" in sentence(found)


def test_the_parts_that_moved_most_come_first():
    before, after = ({"facts": 0.14, "courtesy": 0.16, "ended": 0.0}, {"facts": 0.16, "courtesy": 0.42, "ended": 0.005})
    assert parts_moved(before, after) == "courtesy 0.16 → 0.42, facts 0.14 → 0.16"
    assert parts_moved(before, before) == parts_moved({}, {}) == ""
    assert signed(Estimate(-0.1234, 0, 0, 1, 1)) == "−0.123"
