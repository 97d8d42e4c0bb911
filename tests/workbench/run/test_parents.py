"""A data file of a run is found from any working directory and after a move, and no other file is taken for it."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from workbench.run.config import Section
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.parents import find_data, record_lineage


class Config(Section):
    value: int = 1


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`runs/one` was made from `data/train.jsonl`, by a command in the project's folder."""
    folder = tmp_path / "project"
    (folder / "data").mkdir(parents=True)
    (folder / "data/train.jsonl").write_text("own")
    monkeypatch.chdir(folder)
    run = RunFolder.create("runs/one", phase="reward", config=Config())
    record_lineage(run, parents={}, data={"train": Path("data/train.jsonl")})
    run.release()
    return folder


def test_a_file_is_recorded_as_it_was_named_and_relative_to_the_run(project: Path) -> None:
    file = RunFolder(Path("runs/one")).record()["data"]["train"]
    assert (file["path"], file["relative"]) == ("data/train.jsonl", "../../data/train.jsonl")
    assert str(project) not in str(file), "no absolute path goes along with the run"


def test_from_its_own_folder_the_file_is_named_as_before(project: Path) -> None:
    assert find_data(RunFolder(Path("runs/one")), "train") == Path("data/train.jsonl")
    Path("data/train.jsonl").unlink()
    assert find_data(RunFolder(Path("runs/one")), "train") == Path("data/train.jsonl"), "the reader says it is gone"


def test_from_another_folder_no_other_file_is_taken_for_it(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    (other / "data").mkdir(parents=True)
    (other / "data/train.jsonl").write_text("another project's")
    monkeypatch.chdir(other)
    own = project / "data/train.jsonl"
    run = RunFolder(project / "runs/one")
    assert find_data(run, "train") == own
    own.write_text("changed")
    assert find_data(run, "train") == own, "changed, but not another file"
    own.unlink()
    assert find_data(run, "train") == own, "gone"


@pytest.mark.parametrize("move", [shutil.move, shutil.copytree])
def test_a_project_is_moved_as_a_whole(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, move: Callable[[str, str], object]
) -> None:
    monkeypatch.chdir(tmp_path)
    move("project", "moved")
    assert find_data(RunFolder(Path("moved/runs/one")), "train") == tmp_path / "moved/data/train.jsonl"
    monkeypatch.chdir("moved")
    assert find_data(RunFolder(Path("runs/one")), "train") == Path("data/train.jsonl")


def test_a_run_that_was_moved_alone_is_read_from_where_it_was_made(project: Path) -> None:
    shutil.move("runs/one", "one")
    (project / "archive/data").mkdir(parents=True)
    assert find_data(RunFolder(Path("one")), "train") == Path("data/train.jsonl")
    shutil.move("one", "archive/old/one")
    (project / "archive/data/train.jsonl").write_text("another file at the path relative to the run")
    assert find_data(RunFolder(Path("archive/old/one")), "train") == Path("data/train.jsonl")


def test_a_path_that_was_given_from_the_root_leads_to_its_file_although_it_has_changed(project: Path) -> None:
    own = project / "data/train.jsonl"
    record_lineage(RunFolder(Path("runs/one")), parents={}, data={"train": own})
    own.write_text("changed")
    shutil.move("runs/one", "one")
    assert find_data(RunFolder(Path("one")), "train") == own
    own.unlink()
    assert find_data(RunFolder(Path("one")), "train") == own


def test_a_run_behind_a_link_and_a_linked_file_are_found(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "blob").write_text("linked")
    os.symlink("../blob", "data/linked.jsonl")
    record_lineage(RunFolder(Path("runs/one")), parents={}, data={"train": Path("data/linked.jsonl")})
    os.symlink(project / "runs/one", tmp_path / "latest")
    monkeypatch.chdir(tmp_path)
    found = find_data(RunFolder(Path("latest")), "train")
    assert found == project / "data/linked.jsonl", "its name says how it is read"


def test_a_run_recorded_by_path_alone_is_read_as_before(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(project / "runs/one")
    file = run.record()["data"]["train"]
    run.update_record(data={"train": {key: value for key, value in file.items() if key != "relative"}})
    for folder in (project, tmp_path):
        monkeypatch.chdir(folder)
        assert find_data(run, "train") == Path("data/train.jsonl")


def test_a_relative_path_of_another_form_is_one_clear_error(project: Path) -> None:
    run = RunFolder(project / "runs/one")
    run.update_record(data={"train": run.record()["data"]["train"] | {"relative": 3}})
    with pytest.raises(WorkbenchError, match=r"run\.json: data\.train\.relative is 3"):
        find_data(run, "train")
