"""The pure parts of the benchmark of rounds, and that its arms are loops."""

import json

import numpy as np
import pytest

from benchmarks.rounds import ARMS, OFFLINE, Curve, against_offline, contrast, labels_needed, loop_of, make_arms
from tests.conftest import load_phase
from workbench.loop.config import LoopConfig
from workbench.loop.plan import check_loop_inputs, plan
from workbench.run.config import read_values
from workbench.run.errors import Problems
from workbench.run.sections import SourceSection

SFT = SourceSection(use="configs/tiny/sft.yaml")
"""In place of the run that a measurement trains first."""


def curve(*gold, labels=(0, 300, 600), prompts=40):
    """An arm whose prompts differ in level, not in gain."""
    level = np.linspace(-0.2, 0.2, prompts)
    parts = {"facts": gold, "courtesy": gold}
    return Curve(labels, np.array(gold)[:, None] + level, parts, gold[1:])


def test_labels_that_reach_a_target_by_hand():
    labels = np.array([0.0, 300.0, 600.0])
    assert labels_needed(labels, np.array([0.5, 0.6, 0.8, 0.7])) == pytest.approx(450)
    assert labels_needed(labels, np.array([0.5, 0.7, 0.6, 0.7])) == pytest.approx(300), "the first time counts"
    assert labels_needed(labels, np.array([0.5, 0.6, 0.8, 0.4])) == 0
    assert labels_needed(labels, np.array([0.5, 0.6, 0.6, 0.7])) == np.inf
    assert labels_needed(labels, np.array([0.5, 0.6, 0.6, 0.7]), share=0.25) == pytest.approx(150)


def test_the_ratio_to_the_offline_labels_uses_the_seeds_of_both():
    offline = {seed: curve(0.5, 0.7, labels=(0, OFFLINE)) for seed in (0, 1)}
    ours = {seed: curve(0.5, 0.6, 0.8) for seed in (1, 2)}
    found = against_offline(ours, offline, resamples=50)
    assert found["labels_to_offline_gold"] == pytest.approx(450)
    assert found["ratio_ci"] == pytest.approx([450 / OFFLINE] * 2)
    assert (found["shared_seeds"], found["share_of_resamples_that_reach_it"]) == ([1], 1.0)
    assert found["most_of_the_gain"]["labels"] == pytest.approx(435)  # .5 + .95 · .2 = .69
    assert found["most_of_the_gain"]["ratio_ci"] == pytest.approx([435 / OFFLINE] * 2)
    short = against_offline({1: curve(0.5, 0.55, 0.695)}, offline, resamples=50)
    assert (short["labels_to_offline_gold"], short["ratio_ci"]) == (None, [None, None])
    assert short["most_of_the_gain"]["labels"] == pytest.approx(300 + 300 * 0.14 / 0.145)
    assert against_offline({}, offline)["ratio_ci"] is None
    assert contrast(ours, offline)["mean"] == pytest.approx(0.1)
    assert contrast(ours, {}) is None
    json.dumps(found)


def test_arms_are_loops_of_the_shipped_configuration(tmp_path):
    arms = make_arms(4, 375)
    assert tuple(arms) == ARMS
    assert arms["rounds"].rounds * arms["rounds"].labels <= 1500
    for name in ("offline", "rounds", "few"):
        arm = arms[name]
        values = loop_of(arm, tmp_path, name, 7, ("run.threads=1",))
        config = load_phase(LoopConfig, tmp_path / f"{name}.yaml", values)
        assert (config.loop.labels, config.loop.strategy, config.loop.seed) == (arm.labels, arm.strategy, 7)
        problems = Problems()
        check_loop_inputs(config.model_copy(update={"loop": config.loop.model_copy(update={"sft": SFT})}), problems)
        assert not problems.errors
        trains = [step for step in plan(config) if step.part == "policy"]
        values = [read_values(None, [word for word in step.words if "=" in word]) for step in trains]
        last = arm.last or arm.iterations
        assert [each["train"]["iterations"] for each in values] == [*[arm.iterations] * (arm.rounds - 1), last]
    assert arms["offline"].last == arms["rounds"].last == arms["wide_gaps"].last, "trained alike"
    assert arms["few"].rounds * arms["few"].labels == 200
