"""With two processes, the first one judges and all of them act."""

import json

import pytest

from tests.ppo.conftest import ppo_values
from tests.ppo.guard.conftest import same_adapters
from tests.ppo.test_processes import launch
from workbench.run.folder import RunFolder


@pytest.mark.slow
def test_two_processes_stop_together(tmp_path, sft_run, reward_run, prompt_file, judge_run):
    values = ppo_values(tmp_path / "run", sft_run, reward_run, prompt_file)
    values["rollout"] |= {"batch_size": 32, "micro_batch_size": 16}
    values["train"] |= {"minibatch_size": 16, "micro_batch_size": 8}
    values["guard"] = {"judge": str(judge_run), "threshold": 1e-6}  # an alarm as soon as the guard may act
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps(values))
    done = launch(path, 2, 29640)
    assert done.returncode == 0, done.stderr[-3000:]
    run = RunFolder.open(tmp_path / "run")
    assert (run.record()["status"], run.record()["processes"]) == ("rolled back", 2)
    assert [row["action"] for row in run.read_guard()] == ["go on"] * 3 + ["stop"]
    assert same_adapters(run.adapter, run.path / f"guard/step-{run.record()['guard']['back_to']}")
