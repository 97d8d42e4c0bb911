"""Rows to verify an export on, from a user's file."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from workbench.export.heldout import heldout_rows
from workbench.model.base import load_tokenizer
from workbench.run.errors import WorkbenchError
from workbench.run.lineage import data_fingerprint


@pytest.fixture
def classified(tmp_path, tiny_base) -> Any:
    """What is read of a classification run, and of its roles."""
    (tmp_path / "config.yaml").write_text("data: {}\n")
    record = {"phase": "classify", "text_column": "text", "data": {"train": {"path": str(tmp_path / "own.jsonl")}}}
    folder = SimpleNamespace(record=lambda: record, config_path=tmp_path / "config.yaml", path=tmp_path)
    return folder, SimpleNamespace(tokenizer=load_tokenizer(str(tiny_base)), positions=12)


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


LONG = {"text": "where is my order " * 10}


def test_a_bad_row_is_an_error_in_a_file_that_was_named_and_skipped_as_in_training_in_the_run_s_own(
    classified, tmp_path
):
    own = write(tmp_path / "own.jsonl", {"text": "hello"}, {"text": 5})
    assert len(heldout_rows(*classified, None)) == 1
    with pytest.raises(WorkbenchError, match=r"own\.jsonl, line 2"):
        heldout_rows(*classified, own)


def test_from_another_folder_the_rows_are_of_the_run_s_own_file(classified, tmp_path, monkeypatch):
    folder, roles = classified
    own = write(tmp_path / "own.jsonl", {"text": "hello"}, {"text": "hello again"})
    file = data_fingerprint(Path(own)) | {"path": "own.jsonl", "relative": "own.jsonl"}
    record = folder.record() | {"data": {"train": file}}
    (tmp_path / "other").mkdir()
    write(tmp_path / "other/own.jsonl", {"text": "hello"})
    monkeypatch.chdir(tmp_path / "other")
    assert len(heldout_rows(SimpleNamespace(**vars(folder) | {"record": lambda: record}), roles, None)) == 2


def test_rows_that_are_too_long_are_counted(classified, tmp_path, capsys):
    rows = heldout_rows(*classified, write(tmp_path / "some.jsonl", {"text": "hello"}, LONG))
    assert len(rows) == 1
    assert "1 of 2 held-out rows are longer than the base reads" in capsys.readouterr().out
    with pytest.raises(WorkbenchError, match=r"all\.jsonl.*no held-out row fits"):
        heldout_rows(*classified, write(tmp_path / "all.jsonl", LONG))
