"""A judge for the guard, an alarm at a chosen moment, and what two runs are compared by."""

import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

import ppo.guard.guard as guard
import ppo.guard.sources as sources
from ppo.guard.decide import Decision, best_of, decide
from workbench.run.folder import RunFolder


@pytest.fixture
def small_observations(monkeypatch):
    """Lets a guard observe few answers, so that runs are short."""
    monkeypatch.setattr(sources, "FEWEST_ANSWERS", 2)


@pytest.fixture(scope="session")
def judge_run(tmp_path_factory, reward_run):
    """A copy of the reward run that says it was fitted on other labels."""
    run = tmp_path_factory.mktemp("judge") / "judge"
    shutil.copytree(reward_run, run)
    folder = RunFolder(run)
    data = folder.record()["data"]
    folder.update_record(data={"train": data["train"] | {"sha256": "of other labels"}})
    return run


@pytest.fixture
def alarm(monkeypatch):
    """Makes the guard act at its observation number `at`, whatever it sees."""

    def set_alarm(at):
        def decided(rows, section):
            found = decide(rows, section)
            if len(rows) != at + 1:
                return replace(found, action="go on", back_to=None)
            back_to = rows[best_of(rows)]["step"] if section.act == "stop" else None
            return Decision(section.act, 1.5, found.signals, found.law, "because", back_to)

        monkeypatch.setattr(guard, "decide", decided)

    return set_alarm


def rows_of(run):
    """Guarded rows, and metrics without what a clock measures."""
    metrics = [{k: v for k, v in row.items() if not k.startswith(("seconds", "speed/"))} for row in run.read_metrics()]
    return run.read_guard(), metrics


def same_adapters(first, second):
    """Whether two folders hold the same adapter, to the bit."""
    one, other = (load_file(folder / "adapter_model.safetensors") for folder in (first, second))
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
