"""The demo's list of commands: each is run once, from a folder that does not exist yet, and a failure is named."""

import json
import shlex
from pathlib import Path

import pytest

from workbench import demo
from workbench.demo import Step, run_demo
from workbench.run.checkpoints import write_text_atomically
from workbench.run.errors import WorkbenchError


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder here refuses even root")
def test_a_folder_that_cannot_be_written_is_an_error_before_the_first_step(monkeypatch):
    monkeypatch.setattr(demo, "demo_steps", lambda *_: [Step("base", ("workbench", "tiny"))])
    with pytest.raises(WorkbenchError, match=r"/proc/demo\.json: cannot be written"):
        run_demo(Path("/proc"), seed=0)


def test_the_command_of_the_page_can_be_pasted(tmp_path, capsys):
    folder = tmp_path / "my runs"
    reward = {"accuracy": 0.9, "noise_ceiling": 0.9, "ece": 0.1}
    phases = {"reward": reward, **{name: {"gold_parts": {}} for name in ("sft", "ppo", "dpo")}}
    write_text_atomically(folder / "summary.json", json.dumps({"phases": phases}))
    demo._print_outcome(folder, demo._Ledger.open(folder / "demo.json", 0))
    command = capsys.readouterr().out.splitlines()[-1].removeprefix("page:")
    assert f"store.url={folder / 'annotate/labels.sqlite'}" in shlex.split(command)


@pytest.mark.slow
def test_a_new_folder_a_finished_step_and_a_failed_one(tmp_path, monkeypatch, capfd):
    steps = [Step("base", ("workbench", "tiny")), Step("wrong", ("workbench", "report", str(tmp_path / "none")))]
    monkeypatch.setattr(demo, "demo_steps", lambda *_: steps)
    folder = tmp_path / "runs" / "demo"
    with pytest.raises(WorkbenchError, match="step wrong: ended with exit code 2"):
        run_demo(folder, seed=0)
    found = json.loads((folder / "demo.json").read_text(encoding="utf-8"))
    assert list(found["seconds"]) == ["base"]
    assert 0.02 < found["peak_rss_gib"] < 4
    with pytest.raises(WorkbenchError, match="step wrong"):
        run_demo(folder, seed=0)
    assert "done before in" in capfd.readouterr().out
    with pytest.raises(WorkbenchError, match="was made with seed 0, not 1"):
        run_demo(folder, seed=1)
