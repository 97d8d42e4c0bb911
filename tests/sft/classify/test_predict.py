"""`python -m sft predict`: formats, rows without a text, and continuing after a kill."""

import json
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from sft.__main__ import main
from sft.classify import predict as module
from sft.classify.predict import predict_file
from tests.conftest import write_jsonl
from tests.sft.classify.conftest import labelled_rows
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder


@pytest.fixture
def many(tmp_path):
    """30 texts, the fifth of them empty."""
    rows = [{"id": f"t{n}", "text": row["text"]} for n, row in enumerate(labelled_rows()[:30])]
    rows[4]["text"] = " "
    return write_jsonl(tmp_path / "many.jsonl", rows)


def read_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def predict(head_run, file, out, **options):
    return predict_file(RunFolder(head_run), file, out, rows=30, quiet=True, **options)


def test_each_row_has_a_line_in_its_order(head_run, many, tmp_path, capsys):
    main(["predict", str(head_run), str(many)])
    lines = read_lines(tmp_path / "many.predicted.jsonl")
    assert [line.get("id") for line in lines] == [None if n == 4 else f"t{n}" for n in range(30)]
    assert lines[4] == {"left_out": "'text' is empty", "place": f"{many}, line 5"}
    wanted = [row["label"] for row in labelled_rows()[:30]]
    right = [line["label"] == label for line, label in zip(lines, wanted, strict=True) if "label" in line]
    assert sum(right) > 0.9 * len(right)
    assert all(sum(line["probabilities"].values()) == pytest.approx(1) for line in lines if "label" in line)
    assert "30 rows; 1 without a text" in capsys.readouterr().out
    with pytest.raises(WorkbenchError, match="exists already"):
        main(["predict", str(head_run), str(many)])


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_tables_in_and_out_hold_the_same_as_json_lines(head_run, many, tmp_path, suffix):
    file, out = tmp_path / f"texts{suffix}", tmp_path / f"out{suffix}"
    table = pd.DataFrame(read_lines(many))
    if suffix == ".parquet":
        table.to_parquet(file)
    else:
        table.to_csv(file, sep="\t" if suffix == ".tsv" else ",", index=False)
    predict(head_run, file, out, window=7)
    found = pd.read_parquet(out) if suffix == ".parquet" else pd.read_csv(out, sep="\t" if suffix == ".tsv" else ",")
    predict(head_run, many, tmp_path / "lines.jsonl", window=7)
    lines = read_lines(tmp_path / "lines.jsonl")
    assert list(found.columns) == ["id", "text", "label", "confidence", "p_bad", "p_good", "left_out"]
    assert [label if isinstance(label, str) else None for label in found["label"]] == [ln.get("label") for ln in lines]
    assert found["p_good"].dropna().tolist() == pytest.approx(
        [line["probabilities"]["good"] for line in lines if "label" in line], abs=1e-6
    )
    assert not list(tmp_path.glob(".*"))


def test_a_stopped_command_goes_on_where_it_was(head_run, many, tmp_path, monkeypatch):
    predict(head_run, many, tmp_path / "whole.jsonl", window=8)
    real, calls = module.append_lines, []

    def stop(output, lines):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(output, lines)

    with monkeypatch.context() as patch:
        patch.setattr(module, "append_lines", stop)
        with pytest.raises(KeyboardInterrupt):
            predict(head_run, many, tmp_path / "parts.jsonl", window=8)
    with (tmp_path / ".parts.jsonl.partial").open("a") as file:
        file.write('{"half a li')
    done = predict(head_run, many, tmp_path / "parts.jsonl", window=8)
    assert (done.rows, done.resumed) == (30, 16)
    assert (tmp_path / "parts.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.slow
def test_a_process_killed_by_the_system_is_continued(head_run, tmp_path, capsys):
    rows = [{"text": f"{row['text']} {n}"} for n in range(20) for row in labelled_rows()]
    file, out = write_jsonl(tmp_path / "large.jsonl", rows), tmp_path / "out.jsonl"
    words = ["predict", str(head_run), str(file), "--out", str(out)]
    command = [sys.executable, "-m", "sft", *words]
    partial = tmp_path / ".out.jsonl.partial"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not (partial.exists() and partial.stat().st_size):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"
    assert not out.exists()
    assert main(words) == 0
    assert "by an earlier attempt" in capsys.readouterr().out
    assert [line["text"] for line in read_lines(out)] == [row["text"] for row in rows]


def test_wrong_runs_files_and_columns_are_one_clear_error(head_run, sft_run, many, tmp_path):
    for words, part in (
        ([str(sft_run), str(many)], "is a sft run"),
        ([str(head_run), str(tmp_path / "absent.jsonl")], "no such file"),
        ([str(head_run), str(many), "--text", "txet"], "did you mean 'text'"),
        ([str(head_run), str(many), "--out", str(tmp_path / "x.docx")], "cannot be written as .docx"),
    ):
        with pytest.raises(WorkbenchError) as caught:
            main(["predict", *words])
        assert part in str(caught.value)
