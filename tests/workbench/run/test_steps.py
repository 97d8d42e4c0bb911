"""Commands run once each; a killed list continues, a failed command is shown, other values are refused."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from workbench.run.errors import WorkbenchError
from workbench.run.steps import Ledger, Step, check_commands, run_steps, seconds_left

MODULE = """
import sys, time, pathlib
out, pause = pathlib.Path(sys.argv[1]), float(sys.argv[2])
time.sleep(pause)
with out.open("a") as file:
    file.write("ran\\n")
if "fail" in sys.argv:
    raise SystemExit("the cause")
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A command that appends a line to a file, after a pause."""
    (tmp_path / "appends.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    return "appends"


def step(module, part, out, *words, seed=0):
    return Step(seed, part, (module, str(out), *(words or ("0",))))


def test_finished_commands_are_not_repeated(module, tmp_path):
    steps = [step(module, name, tmp_path / f"{name}.txt") for name in ("a", "b")]
    folder = tmp_path / "compare"
    run_steps(steps[:1], folder)
    ledger = run_steps(steps, folder)
    assert (tmp_path / "a.txt").read_text() == (tmp_path / "b.txt").read_text() == "ran\n"
    assert set(ledger.done) == {"seed 0 a", "seed 0 b"}
    assert ledger.done["seed 0 a"]["peak_rss_bytes"] > 2**20
    assert ledger.done["seed 0 a"]["seconds"] > 0
    assert Ledger.open(folder).done == ledger.done


def test_a_failed_command_is_shown_and_run_again(module, tmp_path):
    steps = [step(module, "a", tmp_path / "a.txt", "0", "fail")]
    with pytest.raises(WorkbenchError, match=r"exit code 1(.|\n)*the cause(.|\n)*it continues with this one"):
        run_steps(steps, tmp_path / "compare")
    assert Ledger.open(tmp_path / "compare").done == {}


def test_another_command_of_the_same_name_is_refused(module, tmp_path):
    folder, config = tmp_path / "compare", tmp_path / "c.yaml"
    config.write_text("a: 1\n")
    first = Step(0, "a", (module, str(tmp_path / "a.txt"), "0"), str(config))
    run_steps([first], folder)
    run_steps([first], folder)
    with pytest.raises(WorkbenchError, match="was run with other values"):
        run_steps([step(module, "a", tmp_path / "other.txt")], folder)
    config.write_text("a: 2\n")
    with pytest.raises(WorkbenchError, match="was run with other values"):
        run_steps([first], folder)


def test_a_killed_comparison_leaves_no_command_running_and_continues(module, tmp_path):
    folder, out = tmp_path / "compare", tmp_path / "slow.txt"
    code = (
        "from pathlib import Path\n"
        "from workbench.run.steps import Step, run_steps\n"
        f"run_steps([Step(0, 'a', ({module!r}, {str(tmp_path / 'a.txt')!r}, '0')),"
        f" Step(0, 'b', ({module!r}, {str(out)!r}, '4'))], Path({str(folder)!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (folder / "logs/seed-0-b.txt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(6)
    assert not out.exists(), "the command went on after its comparison was killed"
    steps = [step(module, "a", tmp_path / "a.txt"), step(module, "b", out, "4")]
    ledger = run_steps(steps, folder)
    assert (tmp_path / "a.txt").read_text() == out.read_text() == "ran\n"
    assert len(ledger.done) == 2


def test_two_comparisons_do_not_share_a_folder(module, tmp_path):
    folder = tmp_path / "compare"
    code = (
        "import time; from pathlib import Path; from workbench.run import lock\n"
        f"Path({str(folder)!r}).mkdir(); lock.hold(Path({str(folder)!r})); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(WorkbenchError, match="is in use by process"):
            run_steps([step(module, "a", tmp_path / "a.txt")], folder)
        process.kill()


def test_seconds_left_are_those_of_other_seeds():
    steps = [Step(seed, part, ("x",)) for seed in (0, 1) for part in ("sft", "train ppo")]
    ledger = Ledger(Path("steps.json"))
    assert seconds_left(steps, ledger) is None
    ledger.done["seed 0 sft"] = {"seconds": 10.0}
    assert seconds_left(steps, ledger) == pytest.approx(30.0)
    ledger.done["seed 0 train ppo"] = {"seconds": 50.0}
    assert seconds_left(steps, ledger) == pytest.approx(60.0)
    ledger.done["seed 1 sft"] = {"seconds": 10.0}
    assert seconds_left(steps, ledger) == pytest.approx(50.0)


def test_a_wrong_key_is_said_before_the_first_command(tmp_path):
    config = "configs/tiny/dpo.yaml"
    made = f"model.start={tmp_path / 'sft'}", f"data.train={tmp_path / 'labels.jsonl'}"
    right = Step(0, "train dpo", ("ppo", config, *made, "run.dir=x", "loss.beta=0.2"), config)
    check_commands([right], tmp_path)
    more = ("loss.bta=0.2",)
    with pytest.raises(WorkbenchError, match=r"did you mean loss\.beta"):
        check_commands([replace(right, further=more)], tmp_path)  # what another count of rounds changes
    wrong = Step(0, "train dpo", ("ppo", config, *made, "run.dir=x", "loss.bta=0.2"), config)
    with pytest.raises(WorkbenchError, match=r"train dpo: python -m ppo(.|\n)*did you mean loss.beta"):
        check_commands([right, wrong], tmp_path)
    Ledger.open(tmp_path).add(wrong, {"seconds": 1.0})
    check_commands([wrong], tmp_path)  # it has ended, so nothing is left to check


def test_missing_inputs_are_said_before_the_first_command_but_for_those_that_the_series_makes(tmp_path):
    config, folder = "configs/tiny/ppo.yaml", tmp_path / "series"
    made = (f"model.start={folder / 'sft'}", f"model.reward={folder / 'reward'}", f"run.dir={folder / 'ppo'}")
    first = Step(1, "policy", ("ppo", config, *made, "data.train=tiny:prompts"), config, resumable=True)
    check_commands([first], folder)
    missing = replace(first, words=("ppo", config, *made, "data.train=none.jsonl", "guard.judge=runs/none"))
    pairs = "configs/tiny/annotate.yaml"
    sample = Step(
        1, "sample", ("annotate", "pairs", pairs, f"pairs.run={folder / 'sft'}", "pairs.prompts=no.jsonl"), pairs
    )
    with pytest.raises(WorkbenchError) as caught:
        check_commands([sample, missing], folder)
    said = str(caught.value)
    assert "3 problems" in said
    for words in ("no.jsonl: no such file", "none.jsonl: no such file", "runs/none: no run here"):
        assert words in said
    assert "no run.json" in said
    assert str(folder / "sft") + ": " not in said


def test_logs_hold_what_a_command_printed(module, tmp_path):
    run_steps([step(module, "a", tmp_path / "a.txt")], tmp_path / "compare")
    assert (tmp_path / "compare/logs/seed-0-a.txt").is_file()
    assert json.loads((tmp_path / "compare/steps.json").read_text())["seed 0 a"]["of"]


@pytest.mark.parametrize("text", ["{", "[]", '{"seed 0 sft": 3}', '{"seed 0 sft": {"seconds": 1.0}}', '"\\u0000"'])
def test_a_broken_list_of_finished_commands_is_one_clear_error(tmp_path, text):
    (tmp_path / "steps.json").write_text(text, encoding="utf-8")
    with pytest.raises(WorkbenchError, match=r"steps.json: is broken: (.|\n)*delete"):
        Ledger.open(tmp_path)
