"""A run that was made in one folder is used from another one, which has other files of the same names."""

import json
import shutil
from pathlib import Path

import pytest

from ppo.guard.sources import labels_of
from reward.__main__ import main as reward_main
from reward.verbs.explain import training_pairs
from sft.config import SftConfig
from sft.sources import old_data
from tests.conftest import load_phase, user, write_jsonl
from workbench.evaluate.heldout_pairs import own_heldout_pairs
from workbench.evaluate.overlap import training_prompts
from workbench.lineage.graph import as_text, lineage
from workbench.lineage.refit import plan, touched_runs
from workbench.lineage.trace import Sought
from workbench.run.config import Section
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.parents import record_lineage

NAMES = ("train", "heldout", "validation")


class Data(Section):
    train: str = "train.jsonl"
    heldout: str = "heldout.jsonl"
    validation: str = "validation.jsonl"
    validation_share: float = 0.1
    heldout_share: float = 0.1
    max_length: int = 128


class Run(Section):
    seed: int = 0


class Config(Section):
    data: Data = Data()
    run: Run = Run()


def write_files(folder, word):
    """Preferences, of which the held-out ones share no prompt with the others."""
    for name in NAMES:
        rows = [
            {
                "id": f"{name} {n}",
                "prompt": user("{} of this folder?", f"{word} {name} {n}"),
                "chosen": [{"role": "assistant", "content": f"{word} yes"}],
                "rejected": [{"role": "assistant", "content": f"{word} no"}],
                "annotators": ["ann"] if name == "train" else ["bea"],
            }
            for n in range(3)
        ]
        write_jsonl(folder / f"{name}.jsonl", rows)


def made_in(folder, name, phase, names, monkeypatch, parents=None):
    monkeypatch.chdir(folder)
    run = RunFolder.create(f"runs/{name}", phase=phase, config=Config())
    data = {file: Path(f"{file}.jsonl") for file in names}
    record_lineage(run, parents=parents or {}, data=data, seed=0, status="finished")
    run.release()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with an sft and a reward run, which were made there; the working directory is another one."""
    project, other = tmp_path / "project", tmp_path / "other"
    for folder in (project, other):
        folder.mkdir()
        write_files(folder, folder.name)
    made_in(project, "sft", "sft", ("train", "validation"), monkeypatch)
    made_in(project, "reward", "reward", ("train", "heldout"), monkeypatch, parents={"start": "runs/sft"})
    monkeypatch.chdir(other)
    return project


def of_prompts(records):
    return [record.prompt[-1].content for record in records]


def test_held_out_pairs_are_the_runs_own(project):
    pairs = own_heldout_pairs(RunFolder(project / "runs/reward"))
    assert of_prompts(pairs) == [f"project heldout {n} of this folder?" for n in range(3)]


def test_training_prompts_are_the_runs_own(project):
    prompts = training_prompts(RunFolder(project / "runs/reward"))
    assert {prompt[-1].content for prompt in prompts} == {f"project train {n} of this folder?" for n in range(3)}


def test_the_guard_and_explain_read_the_labels_of_the_run(project):
    run = RunFolder(project / "runs/reward")
    assert labels_of(run)[0] == training_pairs(run) == project / "train.jsonl"


def test_old_demonstrations_are_those_of_the_start_run(project):
    values = {"run": {"dir": "again"}, "model": {"base": "tiny", "start": str(project / "runs/sft")}}
    old = old_data(load_phase(SftConfig, project / "again.yaml", values | {"data": {"train": "train.jsonl"}}))
    assert (old.train, old.validation) == (project / "train.jsonl", project / "validation.jsonl")


def test_the_lineage_names_files_that_have_not_changed(project):
    text = as_text(lineage(project / "runs/reward"))
    assert f"data.train: {project / 'train.jsonl'}: 3 records" in text
    assert "changed since" not in text
    assert "not here" not in text


def test_a_plan_to_train_again_can_be_run_from_here(project):
    touched = touched_runs(project / "runs", Sought(record="train 0"))
    todo = plan(touched)
    assert not todo.blocked
    assert list(todo.files.items()) == [(project / "train.jsonl", project / "train-refit.jsonl")]
    sft, reward = todo.commands
    assert set(sft[3:]) == {
        f"data.train={project / 'train-refit.jsonl'}",
        f"data.validation={project}/validation.jsonl",
    }
    assert f"data.heldout={project / 'heldout.jsonl'}" in reward
    touched = touched_runs(project / "runs", Sought(record="heldout 0"))
    (command,) = plan(touched).commands
    assert f"model.start={project / 'runs/sft'}" in command, "the start run stays as it is"
    assert f"data.train={project / 'train.jsonl'}" in command


@pytest.mark.slow
def test_a_passport_is_issued_from_another_folder(tmp_path, monkeypatch, reward_run, sft_run, preference_file, capsys):
    """Of the run's own labels, although a file of the same name is here."""
    project, other = tmp_path / "project", tmp_path / "other"
    for folder in (project, other):
        folder.mkdir()
    shutil.copytree(reward_run, project / "reward")
    shutil.copyfile(preference_file, project / "preferences.jsonl")
    monkeypatch.chdir(project)
    record_lineage(
        RunFolder(project / "reward"),
        parents={"start": str(sft_run)},
        data={"train": Path("preferences.jsonl")},
    )
    monkeypatch.chdir(other)
    rows = [json.loads(line) for line in preference_file.read_text(encoding="utf-8").splitlines()]
    write_jsonl(other / "preferences.jsonl", rows[-3:])
    assert reward_main(["passport", "../project/reward", "passport.samples=0", "passport.answers=8"]) in (0, 1)
    passport = json.loads((project / "reward/passport.json").read_text(encoding="utf-8"))
    assert passport["facts"]["pairs"] == 8
    assert passport["facts"]["data_changed"] == []
    (other / "preferences.jsonl").unlink()
    (project / "preferences.jsonl").unlink()
    with pytest.raises(WorkbenchError, match=f"{project / 'preferences.jsonl'}: no such file"):
        reward_main(["passport", "../project/reward"])
