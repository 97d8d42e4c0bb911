"""Small inputs on which the workbench once failed, run by the very commands a user typed.

A case is a folder with `command.txt` and its inputs. Whatever a case holds, its command ends well or with one clear
error: exit code 0 or 2, no traceback. Known cases must also say what `SAYS` names. A case without an entry is held
to the general rule.
"""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CASES = (ROOT / "../shared/cases").resolve()
COMMANDS = sorted(CASES.glob("*/*/command.txt"))

SAYS = {
    "account-name-letters": (0, r"(?s)Zoë.*李雷.*Łukasz"),
    "added-tokens-not-resized": (2, r"(?s)51[34].*512"),
    "csv-json-array-cells": (0, r"30 new"),
    "csv-repr-prompt": (0, ""),
    "eos-several": (0, r"of 16; ended: (?!0 )"),
    "hh-stripped-pairs": (0, ""),
    "hh-user-marks": (0, ""),
    "kto-text": (0, r"15"),
    "logits-scaled-cohere": (None, ""),
    "messages-content-parts": (0, ""),
    "nan-base-sft": (2, r"(?i)finite|NaN"),
    "nan-reward": (2, r"(?i)finite|NaN"),
    "no-pad-llama3": (0, ""),
    "null-answer-parquet": (0, r"1 of 300"),
    "prompt-again-in-answers": (0, ""),
    "remedy-instruction-response": (0, ""),
    "remedy-label-export": (None, ""),
    "sharegpt-sft": (0, ""),
    "system-column-pairs": (0, ""),
    "template-refuses-system": (2, r"(?s)data\.jsonl.*system"),
    "utf16-jsonl": (0, ""),
    "wandb-key-no-network": (0, r"offline"),
    "weights-missing-unquantised": (2, r"q_proj"),
}
"""Case → exit code (None: 0 or 2) and a pattern of its output."""


def _losses_agree(out: Path) -> None:
    """The same rows, nothing learned: the training loss is the validation loss (or the base was refused)."""
    if (out / "run/metrics.jsonl").is_file():
        rows = [json.loads(line) for line in (out / "run/metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        trained = next(row["sft/loss"] for row in rows if "sft/loss" in row)
        validated = next(row["validation/loss"] for row in rows if "validation/loss" in row)
        assert trained == pytest.approx(validated, rel=1e-2)


def _no_brackets_shown(out: Path) -> None:
    with sqlite3.connect(out / "labels.sqlite") as store:
        texts = [text for (text,) in store.execute("select text from response")]
    assert len(texts) == 60
    assert not any(text.startswith("[") for text in texts)


def _kept_offline(out: Path) -> None:
    record = json.loads((out / "run/run.json").read_text(encoding="utf-8"))
    assert record["wandb_mode"] == "offline"
    assert "wandb_error" not in record
    assert list((out / "run/wandb").glob("offline-run-*/*.wandb"))


def _bad_row_listed(out: Path) -> None:
    (row,) = [json.loads(line) for line in (out / "run/bad_rows.jsonl").read_text(encoding="utf-8").splitlines()]
    assert row["problem"] == "'response' is empty"


CHECKS = {
    "null-answer-parquet": _bad_row_listed,
    "logits-scaled-cohere": _losses_agree,
    "csv-json-array-cells": _no_brackets_shown,
    "wandb-key-no-network": _kept_offline,
}
"""Case → what must be true of what its command wrote."""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not COMMANDS, reason="no cases beside the project")]


@pytest.fixture(scope="module")
def sft_run(tmp_path_factory):
    """A short sft run of the tiny default."""
    from sft.__main__ import main

    folder = tmp_path_factory.mktemp("cases") / "sft"
    words = [f"run.dir={folder}", "train.max_steps=2", "sample.prompts=0", "tracking.wandb=disabled", "run.threads=1"]
    assert main([str(ROOT / "configs/tiny/sft.yaml"), *words]) == 0
    return folder


@pytest.fixture
def outcome(request, tmp_path, sft_run):
    """Run a case's command on a copy of its folder: exit code, output, and the folder it may write to."""
    case, out = tmp_path / "case", tmp_path / "out"
    shutil.copytree(request.param.parent, case, copy_function=shutil.copyfile)
    out.mkdir()
    script = request.param.read_text(encoding="utf-8")
    environment = {
        **os.environ,
        "CASE": str(case),
        "OUT": str(out),
        "SFT_RUN": str(sft_run),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    return done.returncode, done.stdout + done.stderr, out


@pytest.mark.parametrize("outcome", COMMANDS, indirect=True, ids=[path.parent.name for path in COMMANDS])
def test_a_case_ends_well_or_with_one_clear_error(outcome, request):
    code, said, out = outcome
    expected, pattern = SAYS.get(request.node.callspec.id, (None, ""))
    assert "Traceback" not in said, said[-3000:]
    assert code in ((0, 2) if expected is None else (expected,)), said[-3000:]
    assert re.search(pattern, said), said[-3000:]
    if code == 2:
        assert said.count("error: ") == 1, said[-3000:]
        assert not (out / "run/adapter").exists(), "an adapter was published"
    CHECKS.get(request.node.callspec.id, lambda out: None)(out)
    record = out / "run/run.json"
    if record.is_file():
        status = json.loads(record.read_text(encoding="utf-8"))["status"]
        assert (status == "finished") == (code == 0), said[-3000:]
