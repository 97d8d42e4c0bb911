"""A folder of runs that is moved as a whole: evaluate, report and roles find everything, and a run resumes in it."""

import json
import shutil

import pytest
import yaml

import ppo.train as phase
from ppo.__main__ import main as ppo_main
from ppo.config import PpoConfig
from tests.conftest import load_phase
from tests.ppo.conftest import ppo_values
from workbench.__main__ import main
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.parents import record_lineage

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def moved(tmp_path_factory, sft_run, reward_run, prompt_file, tiny_base):
    """Base, prompts, a finished and a stopped PPO run with their parents, all moved to another folder."""
    old, new = (tmp_path_factory.mktemp("moved") / name for name in ("old", "new"))
    old.mkdir()
    for name, source in (("sft", sft_run), ("reward", reward_run), ("base", tiny_base)):
        shutil.copytree(source, old / name)
    shutil.copyfile(prompt_file, old / "prompts.jsonl")
    for name in ("sft", "reward"):
        folder = RunFolder(old / name)
        base = folder.record()["base"] | {"name": str(old / "base")}
        folder.update_record(base=base)
    folder = RunFolder(old / "reward")
    record_lineage(folder, parents={"start": str(old / "sft")}, data={})
    values = ppo_values(old / "ppo", old / "sft", old / "reward", old / "prompts.jsonl")
    phase.train(load_phase(PpoConfig, old / "ppo.yaml", values, "train.iterations=2"), resume=False)
    values["run"]["dir"] = str(old / "stopped")
    config = load_phase(PpoConfig, old / "stopped.yaml", values)
    collect, calls = phase.collect, []

    def stop_at_the_fifth(*arguments, **options):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return collect(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phase, "collect", stop_at_the_fifth)
        with pytest.raises(KeyboardInterrupt):
            phase.train(config, resume=False)
    old.rename(new)
    return new


def overrides(folder):
    return [
        str(folder / "stopped/config.yaml"),
        f"run.dir={folder / 'stopped'}",
        f"model.start={folder / 'sft'}",
        f"model.base={folder / 'base'}",
        f"model.reward={folder / 'reward'}",
        f"data.train={folder / 'prompts.jsonl'}",
    ]


def test_roles_evaluate_and_report_find_the_parents(moved, capsys):
    base = ["--base", str(moved / "base")]
    assert main(["roles", str(moved / "ppo"), *base]) == 0
    assert main(["evaluate", str(moved / "ppo"), "--prompts", str(moved / "prompts.jsonl"), *base]) == 0
    assert json.loads((moved / "ppo/evaluation.json").read_text())
    assert main(["report", str(moved / "ppo"), "--out", str(moved / "report.html")]) == 0
    assert (moved / "report.html").is_file()
    assert str(moved / "ppo") in capsys.readouterr().out


def test_another_parent_or_file_is_refused(moved):
    other = moved / "other.jsonl"
    other.write_text((moved / "prompts.jsonl").read_text() + "\n")
    with pytest.raises(WorkbenchError, match="holds other content than this run was made from"):
        ppo_main([*overrides(moved), f"data.train={other}", "--resume"])


def test_the_stopped_run_resumes_at_its_new_place(moved, capsys):
    assert ppo_main([*overrides(moved), "--resume"]) == 0
    said = capsys.readouterr().out
    for key in ("model.start", "model.reward", "data.train"):
        assert f"{key} was moved, the content is the same" in said
    folder = RunFolder.open(moved / "stopped").require_finished()
    steps = [row["step"] for row in folder.read_metrics() if "objective/score" in row]
    assert steps == sorted(set(steps)) == list(range(6)), "each iteration once"
    assert yaml.safe_load(folder.config_path.read_text())["model"]["start"] == str(moved / "sft")
