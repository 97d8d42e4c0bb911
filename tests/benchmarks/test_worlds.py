"""The worlds: halves of the demonstrations, labels turned round at their rate, and the orderings that are checked."""

import json

import numpy as np
import pytest

from benchmarks import worlds
from benchmarks.worlds import ORDERINGS, check, fall, gold_of, half_of_demonstrations, labels
from workbench.compare.config import CompareConfig
from workbench.compare.plan import check_compare_inputs, plan
from workbench.data.records import Item, Message, Response
from workbench.run.config import load_config
from workbench.run.errors import Problems

GOOD, BAD = "We take lamps back for 14 days. We are glad to help.", "Read the site yourself."


@pytest.fixture(scope="module")
def items():
    prompt = (Message(role="user", content="Good day. When must I return lamps?"),)
    answers = [(GOOD, BAD), (BAD, GOOD), (GOOD, GOOD)]
    return [
        Item(
            id=f"i{number}",
            group=f"g{number}",
            prompt=prompt,
            responses=tuple(Response(id=side, text=text) for side, text in zip("ab", pair, strict=True)),
        )
        for number in range(600)
        for pair in [answers[number % 3]]
    ]


def test_the_halves_differ_in_gold():
    means = {}
    for world in worlds.WORLDS:
        records = half_of_demonstrations(world)
        assert len(records) == 1500
        means[world] = np.mean([gold_of(record.prompt, record.response, True) for record in records])
    assert means["likely"] > means["unlikely"] + 0.3


@pytest.mark.parametrize("noise", worlds.NOISES)
def test_labels_are_turned_round_at_their_rate(items, noise):
    records = labels(items, noise)
    assert len(records) == 400  # equal answers are left out
    wrong = np.mean([record.chosen_text == BAD for record in records])
    assert wrong == pytest.approx(noise, abs=3 * np.sqrt(0.25 / 400))
    assert labels(items, noise) == records
    assert 0.05 < np.mean([record.split == "heldout" for record in records]) < 0.15


def test_orderings():
    rng = np.random.default_rng(0)
    gaps = {"likely": 0.0, "unlikely": 0.3}
    values = {
        (world, noise): {
            "ppo": gap + rng.normal(0, 0.02, (3, 50)),
            "dpo": rng.normal(0, 0.02, (3, 50)),
            "chosen-sft": 0.2 + rng.normal(0, 0.02, (3, 50)),
        }
        for world, gap in gaps.items()
        for noise in worlds.NOISES
    }
    xu, negative, on_policy, negative_more = (check(ordering, values)["cells"] for ordering in ORDERINGS)
    assert xu["unlikely, 20% noise"]["verdict"] == "holds"
    assert xu["likely, 20% noise"]["verdict"] == "no difference shown"
    assert negative["likely, 0% noise"]["verdict"] == "the opposite holds"
    assert on_policy["unlikely − likely, 40% noise"]["verdict"] == "holds"
    assert negative_more["unlikely − likely, 0% noise"]["verdict"] == "no difference shown"


def test_over_optimisation_is_a_fall_from_the_first_checkpoint_to_the_last():
    found = fall(np.array([[0.0, 0.7, 0.6, 0.5], [0.0, 0.72, 0.6, 0.5], [0.0, 0.7, 0.7, 0.52]]))
    assert found["difference"] == pytest.approx(0.2)
    half = 4.303 * 0.02 / 3**0.5
    assert found["ci"] == pytest.approx([0.2 - half, 0.2 + half], abs=1e-3)
    assert found["verdict"] == "holds"
    assert fall(np.array([[0.0, 0.5, 0.7], [0.0, 0.5, 0.71]]))["verdict"] == "the opposite holds"
    assert fall(np.array([[0.0, 0.5, 0.7]]))["verdict"] == "no difference shown"


def test_a_cell_is_a_comparison_of_its_own(items, tmp_path, sft_run):
    (tmp_path / "sft").symlink_to(sft_run)
    changes = ["train.max_steps=3", "train.iterations=1"]
    path = worlds.write_cell(tmp_path, 0.2, items, [0, 1], changes)
    config, _ = load_config(CompareConfig, path)
    problems = Problems()
    check_compare_inputs(config, problems)
    assert [str(error) for error in problems.errors] == []
    words = {step.part: step.words for step in plan(config) if step.number == 1}
    assert {"train ppo", "train dpo", "train ipo", "train slic", "train chosen-sft"} < words.keys()
    assert f"data.train={tmp_path / 'noise-20.jsonl'}" in words["train dpo"]
    assert "train.max_steps=3" in words["train dpo"]
    assert "train.iterations=1" not in words["train dpo"]
    assert "train.max_steps=3" not in words["train ppo"]
    assert "train.iterations=1" in words["train ppo"]
    assert f"model.start={tmp_path / 'sft'}" in words["train chosen-sft"]
    assert worlds.write_cell(tmp_path, 0.2, [], [0, 1], changes) == path  # the labels are there
    assert (tmp_path / "noise-20.jsonl").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_worlds_run_at_a_very_small_size(tmp_path, monkeypatch):
    monkeypatch.setattr(worlds, "NOISES", (0.4,))
    monkeypatch.setattr(worlds, "WORLDS", ("unlikely",))
    monkeypatch.setattr(worlds, "METHODS", worlds.METHODS[1:2] + worlds.METHODS[4:])
    monkeypatch.setattr(worlds, "ORDERINGS", ORDERINGS[1:2])
    words = ["--seeds", "0", "--prompts", "40", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "w.json")]
    words += ["--figure", str(tmp_path / "w.png")]
    small = ["train.max_steps=3", "measure.answers=2", "measure.max_new_tokens=16"]
    assert worlds.main([*words, "--set", *small]) == 0
    content = json.loads((tmp_path / "w.json").read_text(encoding="utf-8"))
    assert {"commit", "hardware", "versions", "claim"} <= content.keys()
    assert set(content["cells"]) == {"unlikely, 40% noise"}
    assert len(content["orderings"][0]["cells"]) == 1
    assert (tmp_path / "w.png").stat().st_size > 10_000
