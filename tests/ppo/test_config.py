"""Which configuration class a command line means."""

from pathlib import Path

import pytest
import yaml

from ppo.__main__ import main
from ppo.config import method_of
from workbench.run.errors import WorkbenchError


def test_the_file_names_the_method_and_the_command_line_overrules_it(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("method: dpo   # of preference pairs\n")
    assert method_of(path, []) == "dpo"
    assert method_of(path, ["method=slic"]) == "slic"
    for written in (
        'method: "dpo"\n',
        '{"method": "dpo"}',
        "# method: ppo\nrun: {dir: x}\nmethod:   'dpo' # a comment\n",
    ):
        path.write_text(written)
        assert method_of(path, []) == "dpo"
    path.write_text("run:\n  dir: somewhere\n")
    assert method_of(path, []) == "ppo"


@pytest.mark.parametrize("word", ["method=dbo", "method=grpo"])
def test_an_unknown_method(word, tmp_path):
    (tmp_path / "x.yaml").write_text("run: {dir: x}\n")
    with pytest.raises(WorkbenchError, match="is unknown") as error:
        method_of(tmp_path / "x.yaml", [word])
    assert "dpo" in str(error.value)


@pytest.mark.parametrize("method", ["ppo", "dpo", "slic"])
def test_dry_run_prints_each_value_with_its_origin(method, capsys, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    path = f"configs/tiny/{method}.yaml"
    assert main([path, "run.seed=7", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    origins = {line.split(":")[0]: line.rpartition("# ")[2] for line in printed.splitlines()}
    assert (origins["  seed"], origins["method"], origins["  wandb"]) == ("command line", path, "default")
    values = yaml.safe_load(printed)
    assert (values["run"]["seed"], values["method"]) == (7, method)
