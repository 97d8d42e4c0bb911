"""A project of a user's own, and the shipped configurations from any working directory."""

from pathlib import Path

import pytest

from ppo.config import method_of
from workbench.__main__ import main
from workbench.project import start_project
from workbench.run.errors import WorkbenchError
from workbench.run.shipped import here_or_shipped, shipped_configs


def test_init_writes_configurations_and_next_steps(tmp_path, capsys):
    folder = tmp_path / "mine"
    assert main(["init", str(folder)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "configs", "data"]
    shipped = {path.relative_to(shipped_configs()) for path in shipped_configs().rglob("*.yaml")}
    assert {path.relative_to(folder / "configs") for path in (folder / "configs").rglob("*.yaml")} == shipped
    assert str(folder) in capsys.readouterr().out


def test_every_command_of_the_next_steps_has_its_configuration(tmp_path):
    start_project(tmp_path / "mine")
    words = (tmp_path / "mine/README.md").read_text(encoding="utf-8").split()
    named = [word for word in words if word.endswith(".yaml")]
    assert len(named) > 5
    assert all((tmp_path / "mine" / name).is_file() for name in named)


def test_init_leaves_what_is_there_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(WorkbenchError, match="is not empty"):
        start_project(tmp_path)
    with pytest.raises(WorkbenchError, match="is a file"):
        start_project(tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_shipped_configuration_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert here_or_shipped(Path("configs/tiny/dpo.yaml")) == shipped_configs() / "tiny/dpo.yaml"
    assert method_of(Path("configs/tiny/dpo.yaml"), []) == "dpo"


def test_a_file_that_is_here_wins_and_other_paths_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mine = Path("configs/tiny/dpo.yaml")
    mine.parent.mkdir(parents=True)
    mine.write_text("method: slic\n", encoding="utf-8")
    assert here_or_shipped(mine) == mine
    assert method_of(mine, []) == "slic"
    for other in ("settings/tiny/dpo.yaml", "configs/none.yaml", "/configs/tiny/dpo.yaml"):
        assert here_or_shipped(Path(other)) == Path(other)
