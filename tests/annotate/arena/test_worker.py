import json
import queue
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from annotate.arena.serve import check_runs
from tests.annotate.arena.conftest import wait_for
from workbench.model.roles import Roles
from workbench.run.errors import WorkbenchError
from workbench.run.sources import locate
from workbench.serve.engine import COMMAND
from workbench.serve.protocol import Ask
from workbench.serve.worker import Worker, open_sources


@pytest.fixture(scope="module")
def roles(sft_run: Path, other_run: Path) -> Roles:
    return open_sources([locate(sft_run), locate(other_run)])


def ask(job: int, text: str = "Where is my parcel?", **more: Any) -> dict[str, Any]:
    values = {"run": job % 2, "max_new_tokens": 12, "temperature": 1.0, "seed": 5, **more}
    return asdict(Ask(job, prompt=[{"role": "user", "content": text}], **values))


def serve(roles: Roles, *lines: dict[str, Any]) -> dict[int, list[dict[str, Any]]]:
    """What a worker says of each job; the input ends when every job has ended."""
    heard: dict[int, list[dict[str, Any]]] = {}
    waiting: queue.Queue[dict[str, Any] | None] = queue.Queue()
    open_jobs = {line["job"] for line in lines if "job" in line}

    def said(line: dict[str, Any]) -> None:
        heard.setdefault(line["job"], []).append(line)
        if "add" not in line:
            open_jobs.discard(line["job"])
        if not open_jobs:
            waiting.put(None)

    for line in lines:
        waiting.put(line)
    Worker(roles, said).serve(waiting)
    return heard


def test_pieces_add_up_to_the_answer(roles: Roles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.serve.worker.PIECE_SECONDS", 0.0)
    heard = serve(roles, ask(0), ask(1), ask(2))
    for job in (0, 1):
        *pieces, last = heard[job]
        text = ""
        for piece in pieces:
            text = text[: piece["keep"]] + piece["add"]
        assert len(pieces) > 3
        assert last["text"].startswith(text)
    assert heard[0][-1]["text"] != heard[1][-1]["text"]  # two runs
    assert heard[0][-1]["text"] == heard[2][-1]["text"]  # one run, one seed


def test_a_stopped_answer_ends_as_it_is_and_the_others_go_on(roles: Roles) -> None:
    heard = serve(roles, ask(0, max_new_tokens=100), ask(1), {"stop": 0}, {"stop": 77})
    assert heard[0] == [{"job": 0, "text": "", "ended": False}]
    assert heard[1][-1]["text"]


def test_what_does_not_fit_is_one_clear_error(roles: Roles) -> None:
    heard = serve(roles, ask(0, "parcel " * 200), ask(1))
    (error,) = heard[0]
    assert "the base reads 256" in error["error"]
    assert "at most 244, which leaves 12 for the answer" in error["error"]
    assert heard[1][-1]["text"]


def test_runs_must_be_different_policies_on_one_base(
    sft_run: Path, other_run: Path, reward_run: Path, tmp_path: Path
) -> None:
    assert len(check_runs([str(sft_run), str(other_run)])) == 2
    with pytest.raises(WorkbenchError, match="named twice"):
        check_runs([str(sft_run), str(sft_run)])
    with pytest.raises(WorkbenchError, match="2 problems"):
        check_runs([str(tmp_path / "none"), str(reward_run)])
    moved = tmp_path / "moved"
    shutil.copytree(sft_run, moved)
    record = json.loads((moved / "run.json").read_text())
    record["base"]["fingerprint"] = "another"
    (moved / "run.json").write_text(json.dumps(record))
    with pytest.raises(WorkbenchError, match="runs on one base"):
        check_runs([str(sft_run), str(moved)])


@pytest.mark.slow
def test_the_process_says_what_is_wrong_and_ends_with_its_input(sft_run: Path) -> None:
    def start(**first: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin is not None
        process.stdin.write(json.dumps(first) + "\n")
        process.stdin.flush()
        return process

    runs = [str(sft_run)]
    with start(runs=runs, max_new_tokens=256) as refused, start(runs=runs, max_new_tokens=100) as process:
        assert refused.stdout is not None
        assert "leave no room for a question" in json.loads(refused.stdout.readline())["fatal"]
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == {"ready": True}
        assert process.stdin is not None
        process.stdin.write(json.dumps(ask(0, run=0, max_new_tokens=100)) + "\n")
        process.stdin.close()  # the server has died in the middle of an answer
        wait_for(lambda: process.poll() is not None)
    assert sys.executable == COMMAND[0]
