"""From evaluations and passports to the table and the page of a loop, on policies whose gold is known."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import yaml

from annotate.config import QueueSection
from annotate.intake.load import load_file
from annotate.store.database import Store
from tests.conftest import load_phase, user, write_jsonl
from tests.workbench.compare.test_results import evaluation
from tests.workbench.evaluate.test_report import Page
from workbench.data.masking import masker_of
from workbench.data.readers import read_preferences, write_records
from workbench.data.records import Message, Preference
from workbench.evaluate.evaluation import Evaluation
from workbench.evaluate.statistics import Estimate, wilson_interval
from workbench.evaluate.summary import parts_moved
from workbench.loop.config import LoopConfig
from workbench.loop.control import compared, control_sentence
from workbench.loop.forecast import Forecast, Gain
from workbench.loop.outlook import Check, Outlook, check_sentence, outlook, recommendation
from workbench.loop.page import sentence, signed, write_results
from workbench.loop.plan import Round, plan
from workbench.loop.results import loop_result
from workbench.privacy.keys import ENVIRONMENT
from workbench.run.steps import Ledger

GAINS = (0, 1, 3)
"""Words that the policies of rounds 0, 1 and 2 add, each worth gold."""


def labelled(number, of_round):
    """A labelled pair, whose first answer is the better one."""
    return Preference(
        id=f"p{number}",
        group=f"g{number}",
        prompt=(Message(role="user", content=f"{number}?"),),
        chosen=(Message(role="assistant", content="a"),),
        rejected=(Message(role="assistant", content="b"),),
        round=of_round,
    )


def write_choice(this, numbers, *, wrong):
    """The chosen pairs of a round, every fifth at random; the model before is wrong about the pairs in `wrong`."""
    responses = [{"id": text, "text": text} for text in "ab"]
    write_jsonl(
        this.items,
        [{"id": f"p{n}", "group": f"g{n}", "prompt": user("?", n), "responses": responses} for n in numbers],
    )
    asked = this.number > 1
    rows = [
        {"id": f"p{n}", "priority": 1.0, "strategy": "random" if not asked or n % 5 == 0 else "disagreement"}
        | ({"gap": -1.0 if n in wrong else 1.0} if asked else {})
        for n in numbers
    ]
    write_jsonl(this.priorities, rows)


def loop(folder, *, judged=True, judge=None, last=None):
    """A finished loop of two rounds: its evaluations, labels, passports and ledger."""
    with open("configs/tiny/loop.yaml", encoding="utf-8") as file:
        values = yaml.safe_load(file)
    values["loop"] |= {"out": str(folder), "rounds": 2, "last": last or {}}
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
            write_choice(this, range(10 * (number - 1), 10 * number), wrong={11, 12, 13, 14})
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


def test_the_forecast_of_the_first_round_is_checked_after_the_second(tmp_path):
    config, ledger = loop(tmp_path)
    first, second = loop_result(config, ledger, 1).outlook, loop_result(config, ledger, 2).outlook
    assert first.checks == []
    (check,) = second.checks
    assert check.round == 2
    assert check.gain == pytest.approx(loop_result(config, ledger, 2).rounds[2].step_gain.mean)
    assert check.inside == (check.forecast.low <= check.gain <= check.forecast.high)
    assert first.forecast.measured.mean > 0
    assert (second.forecast.labels, second.forecast.more) == (20, config.loop.labels)
    assert loop_result(config, ledger, 0).outlook is None
    numbers = json.loads((tmp_path / "loop.json").read_text("utf-8")) if write_results(config, ledger, 2) else None
    assert numbers["outlook"]["recommendation"] == recommendation(second, "gold reward")
    assert numbers["outlook"]["forecast"]["per_100"]["low"] == second.forecast.per_100.low
    text = (tmp_path / "loop.html").read_text(encoding="utf-8")
    assert "When to stop labelling" in text
    assert check_sentence(second) in text


def test_a_last_round_that_is_trained_otherwise_is_no_ground_for_a_forecast(tmp_path):
    config, ledger = loop(tmp_path, last={"start": "sft"})
    found = loop_result(config, ledger, 2)
    assert (found.alike, len(found.rounds)) == (1, 3)
    assert found.outlook == loop_result(config, ledger, 1).outlook
    text = "\n".join(write_results(config, ledger, 2))
    assert "The forecast is from round 1: loop.last trains the policy of the last round otherwise." in text
    page = (tmp_path / "loop.html").read_text(encoding="utf-8")
    assert f"forecast, {found.rounds[1].labels + config.loop.labels:,} labels" in page
    assert "trains the policy" not in "\n".join(write_results(config, ledger, 1))


def test_what_is_recommended_by_hand():
    def found(low, high, *, checks=()):
        return Outlook(Forecast(300, 300, Gain(0, 0, 0), Gain(0.04, low, high)), list(checks), low > 0)

    check = Check(2, Gain(0.03, -0.01, 0.05), 0.06, inside=False)
    assert recommendation(found(0.02, 0.06), "gold reward") == "100 more labels: +0.020 to +0.060 gold reward."
    assert recommendation(found(-0.01, 0.06), "gold reward") == (
        "One round shows no trend yet (100 more labels: −0.010 to +0.060 gold reward): run another round."
    )
    assert recommendation(found(-0.01, 0.06, checks=[check]), "gold reward") == (
        "No further gain shown (100 more labels: −0.010 to +0.060 gold reward): stop here, or change what is sampled."
    )
    assert recommendation(found(-0.07, -0.001), "gold reward") == (
        "The last round lost (100 more labels: −0.070 to −0.001 gold reward): "
        "stop here, or train less far on these labels."
    )
    assert check_sentence(found(0.02, 0.06)) == ""
    held = Check(3, Gain(0.03, -0.01, 0.05), 0.05, inside=True)
    assert check_sentence(found(0.02, 0.06, checks=[check, held])) == (
        "Round 3 was forecast to add −0.010 to +0.050 and added +0.050: inside the interval "
        "(1 of 2 forecasts held so far)."
    )


def test_a_round_without_new_labels_ends_the_forecasts():
    assert outlook([100, 100], np.zeros((2, 5)), 100) is None


def test_the_strategy_against_its_control(tmp_path):
    config, ledger = loop(tmp_path)
    # Pairs 10 and 15 of round 2 are random, the model is right about both; it is wrong about 11, 12, 13 and 14 of 8.
    found = loop_result(config, ledger, 2).control
    assert (found.chosen.mean, found.chosen.count) == (0.5, 8)
    assert (found.random.mean, found.random.count) == (0.0, 2)
    assert found.low < 0 < found.difference < found.high, "two pairs are few"
    assert loop_result(config, ledger, 1).control is None, "the first round has no reward model"
    said = control_sentence(found, "d-optimal")
    assert said.startswith(
        "Random is as good here, as far as this shows: the reward model of the previous round was wrong"
    )
    assert "about 50% of the labels that d-optimal chose and 0% of the random ones (difference +50 points, −" in said


def test_the_control_knows_the_preferred_answer_as_the_label_store_holds_it(tmp_path, monkeypatch):
    """The store masks personal data and removes a leading space; the round's pairs have both."""
    pytest.importorskip("presidio_analyzer")
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "mask.key"))
    masker_of.cache_clear()
    config, ledger = loop(tmp_path)
    this = Round(config, 2)
    rows = [json.loads(line) for line in this.items.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        row["responses"] = [{"id": a, "text": f" {a}: write to {row['id']}@example.org"} for a in "ab"]
    write_jsonl(this.items, rows)
    store = Store.open(tmp_path / "labels.sqlite")
    load_file(store, this.items, QueueSection(mask_personal=("email",)))
    with store.read() as transaction:
        texts = {item.item_id: [a.text for a in transaction.responses(item.id)] for item in transaction.items()}
    store.close()
    assert "@" not in str(texts)
    labels = []
    for label in read_preferences(this.labels):
        sides = zip(("chosen", "rejected"), texts.get(label.id, "ab"), strict=True)
        messages = {side: (Message(role="assistant", content=text),) for side, text in sides}
        labels.append(label.model_copy(update=messages))
    write_records(this.labels, labels)
    assert loop_result(config, ledger, 2).control is None, "without the masks these are other texts"
    annotate = config.loop.annotate.model_copy(update={"set": ("queue.mask_personal=email",)})
    masking = config.model_copy(update={"loop": config.loop.model_copy(update={"annotate": annotate})})
    found = loop_result(masking, ledger, 2).control
    assert (found.chosen.mean, found.chosen.count) == (0.5, 8)
    assert (found.random.mean, found.random.count) == (0.0, 2)
    masker_of.cache_clear()


def test_the_difference_of_shares_as_published():
    # Newcombe 1998, table II, example (a): 56/70 − 48/80, method 10: .0524 to .3339.
    shares = (Estimate(k / n, *wilson_interval(k, n), n, n) for k, n in ((56, 70), (48, 80)))
    found = compared(*shares)
    assert (found.low, found.high) == (pytest.approx(0.0524, abs=5e-5), pytest.approx(0.3339, abs=5e-5))
    assert control_sentence(found, "bald").startswith("Choosing finds pairs that the model gets wrong")


def test_without_gold_the_judge_counts_and_without_a_judge_nothing_is_compared(tmp_path):
    (tmp_path / "judge").mkdir()
    (tmp_path / "none").mkdir()
    found = loop_result(*loop(tmp_path / "judge", judged=False, judge="runs/judge"), 2)
    assert found.judge == "judge"
    assert found.rounds[2].gain is not None
    found = loop_result(*loop(tmp_path / "none", judged=False), 2)
    assert found.judge == "none"
    assert found.outlook is None
    assert [each.quality for each in found.rounds] == [None] * 3
    assert "cannot be compared" in sentence(found) or "Set measure.judge" in sentence(found)


def test_the_parts_that_moved_most_come_first():
    before, after = ({"facts": 0.14, "courtesy": 0.16, "ended": 0.0}, {"facts": 0.16, "courtesy": 0.42, "ended": 0.005})
    assert parts_moved(before, after) == "courtesy 0.16 → 0.42, facts 0.14 → 0.16"
    assert parts_moved(before, before) == parts_moved({}, {}) == ""
    assert signed(Estimate(-0.1234, 0, 0, 1, 1)) == "−0.123"
