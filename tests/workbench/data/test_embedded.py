import subprocess
from pathlib import Path
from typing import Any

import pytest

from workbench.data import embedded
from workbench.data.embedded import TINY_DATA, resolve_base, resolve_data, tiny_folder
from workbench.run.errors import WorkbenchError


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


class Maker:
    """A substitute for the process that makes the embedded default."""

    def __init__(self) -> None:
        self.code = 0
        self.entries = ["base", *(f"{name}.jsonl" for name in TINY_DATA)]
        self.commands: list[list[str]] = []

    def __call__(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        self.commands.append(command)
        for entry in self.entries if self.code == 0 else []:
            (tiny_folder() / entry).mkdir(parents=True)
        return subprocess.CompletedProcess(command, self.code)


@pytest.fixture
def maker(monkeypatch: pytest.MonkeyPatch) -> Maker:
    made = Maker()
    monkeypatch.setattr(embedded.subprocess, "run", made)
    return made


def model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_the_folder_is_named_by_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "a.py").write_text("A = 1\n")
    monkeypatch.setattr(embedded, "_SOURCES", sources)
    before = tiny_folder()
    assert before.parent == tmp_path / "cache"
    assert len(before.name.removeprefix("tiny-")) == 12
    (sources / "notes.txt").write_text("no source")
    assert tiny_folder() == before
    (sources / "a.py").write_text("A = 2\n")
    assert tiny_folder() != before


def test_without_a_setting_the_cache_is_in_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORKBENCH_CACHE")
    assert tiny_folder().parent == Path.home() / ".cache" / "alignment-workbench"


def test_the_embedded_default_is_made_once_by_a_separate_process(maker: Maker) -> None:
    assert resolve_base("tiny") == str(tiny_folder() / "base")
    assert resolve_data("tiny:prompts_heldout") == tiny_folder() / "prompts_heldout.jsonl"
    assert [command[1:] for command in maker.commands] == [["-m", "workbench", "tiny"]]
    maker.entries = ["rare/prompts.jsonl"]
    assert resolve_data("rare:prompts") == tiny_folder() / "rare/prompts.jsonl"


def test_a_failure_to_make_it_names_the_command_to_run(maker: Maker) -> None:
    maker.code = 3
    with pytest.raises(WorkbenchError, match=r"ended with code 3(.|\n)*run that command"):
        resolve_base("tiny")


def test_a_file_that_is_missing_after_making_is_named(maker: Maker) -> None:
    maker.entries = ["base"]
    with pytest.raises(WorkbenchError, match=r"prompts\.jsonl.*missing"):
        resolve_data("tiny:prompts")


def test_other_data_names_are_paths() -> None:
    assert resolve_data("data/pairs.jsonl") == Path("data/pairs.jsonl")
    assert str(resolve_data("hub:owner/name")) == "hub:owner/name"


def test_an_unknown_embedded_file_names_the_nearest(maker: Maker) -> None:
    with pytest.raises(WorkbenchError, match=r"did you mean 'tiny:prompts'"):
        resolve_data("tiny:promts")
    with pytest.raises(WorkbenchError, match=r"did you mean 'rare:prompts'"):
        resolve_data("rare:promts")
    with pytest.raises(WorkbenchError, match="no such file"):
        resolve_data("rare:texts")
    assert not maker.commands


def test_a_base_folder_stays_as_it_is(tmp_path: Path) -> None:
    folder = model(tmp_path / "bases/llama")
    assert resolve_base(str(folder)) == str(folder)


def test_a_base_folder_that_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    model(tmp_path / "bases/llama-7b")
    with pytest.raises(WorkbenchError, match=r"no such base folder(.|\n)*did you mean .*llama-7b"):
        resolve_base(str(tmp_path / "bases/lama-7b"))


def test_a_folder_without_a_model_lists_its_files(tmp_path: Path) -> None:
    model(tmp_path / "bases/llama")
    with pytest.raises(WorkbenchError, match=r"no config\.json; it holds llama(.|\n)*did you mean .*bases/llama"):
        resolve_base(str(tmp_path / "bases"))


def test_an_adapter_is_not_a_base(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(WorkbenchError, match="an adapter, not a base"):
        resolve_base(str(tmp_path))


def test_a_file_is_not_a_base(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_text("")
    with pytest.raises(WorkbenchError, match=r"it is a file(.|\n)*a folder with config\.json"):
        resolve_base(str(tmp_path / "weights.bin"))


def test_a_hub_id_that_is_not_cached_is_an_error_while_offline() -> None:
    with pytest.raises(WorkbenchError, match=r"base nobody/nothing-7b.*offline(.|\n)*model\.base="):
        resolve_base("nobody/nothing-7b")


def test_a_misspelt_tiny_is_recognised() -> None:
    with pytest.raises(WorkbenchError, match="did you mean 'tiny'"):
        resolve_base("tinny")


def test_a_hub_id_passes_while_online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert resolve_base("nobody/nothing-7b") == "nobody/nothing-7b"


def test_a_cached_hub_id_passes_while_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: str(tmp_path / "config.json"))
    assert resolve_base("owner/cached") == "owner/cached"
