import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import HTTPCookieProcessor, build_opener

import pytest

from annotate.__main__ import main
from annotate.arena import serve
from annotate.campaign.battles import OPENED
from annotate.store.database import Store
from tests.annotate.arena.conftest import FAKE_WORKER
from tests.annotate.test_command_line import HEAVY, ROOT, _free_port
from workbench.__main__ import main as workbench
from workbench.run.errors import WorkbenchError


def make_run(folder: Path, fingerprint: str = "same") -> str:
    """As much of a finished run as the server reads."""
    base = {"name": "tiny", "revision": None, "quantise": "nf4", "dtype": "auto", "fingerprint": fingerprint}
    (folder / "adapter").mkdir(parents=True)
    (folder / "adapter/adapter_model.safetensors").write_bytes(folder.name.encode())
    (folder / "run.json").write_text(json.dumps({"phase": "sft", "status": "finished", "base": base}))
    return str(folder)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, fake_worker: Path) -> None:
    monkeypatch.setattr(serve, "run", lambda app, listener, **_: None)


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("where", ["next to the first run", "where the configuration says"])
def test_votes_go_to_one_store(where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [make_run(tmp_path / "runs" / name) for name in ("one", "two")]
    port = f"server.port={_free_port()}"
    if where == "next to the first run":
        place = tmp_path / "runs/labels.sqlite"
        assert main(["arena", *runs, port]) == 0
    else:
        place = tmp_path / "mine.sqlite"
        assert main(["arena", runs[0], f"store.url={place}", "configs/tiny/annotate.yaml", port, runs[1]]) == 0
    said = capsys.readouterr().out
    assert re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+  \(Ctrl-C stops it; every vote is saved in ", said)
    assert str(place) in said
    store = Store.open(place, as_it_is=True)
    with store.read() as transaction:
        (event,) = [event for event in transaction.events() if event["kind"] == OPENED]
    store.close()
    assert event["detail"]["runs"] == runs


@pytest.mark.usefixtures("served")
def test_a_chat_leaves_nothing_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "one")
    assert main(["arena", run, f"server.port={_free_port()}"]) == 0
    assert "conversations are not saved" in capsys.readouterr().out
    assert [path.name for path in tmp_path.rglob("*.sqlite")] == []


@pytest.mark.usefixtures("served")
def test_mistakes_are_explained(tmp_path: Path, fake_worker: Path) -> None:
    one, other = make_run(tmp_path / "one"), make_run(tmp_path / "other", "another")
    with pytest.raises(WorkbenchError, match="runs on one base"):
        main(["arena", one, other])
    with pytest.raises(WorkbenchError, match="named twice"):
        main(["arena", one, one])
    with pytest.raises(WorkbenchError, match="names no run"):
        main(["arena", "configs/tiny/annotate.yaml"])
    with pytest.raises(WorkbenchError, match="has no account"):
        main(["arena", one, "server.host=0.0.0.0"])
    fake_worker.write_text("fatal")
    with pytest.raises(WorkbenchError, match="the base is missing"):
        main(["arena", one, f"server.port={_free_port()}"])


def test_workbench_chat_becomes_an_arena_of_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda program, words: became.append(words))
    workbench(["chat", "runs/one", "server.port=17993"])
    assert became == [[sys.executable, "-m", "annotate", "arena", "runs/one", "server.port=17993"]]


@pytest.mark.slow
def test_a_chat_answers_ends_with_sigterm_and_loads_no_model_library(tmp_path: Path) -> None:
    port = _free_port()
    code = f"""
import sys
from workbench.serve import engine
engine.COMMAND = (sys.executable, {str(FAKE_WORKER)!r}, "none")
from annotate.__main__ import main
try:
    main(["arena", {make_run(tmp_path / "one")!r}, "server.port={port}"])
finally:
    print([name for name in {HEAVY} if name in sys.modules], flush=True)"""
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as process:
        assert process.stdout is not None
        address = next(line for line in process.stdout if line.startswith("http")).split()[0]
        with build_opener(HTTPCookieProcessor()).open(address) as reply:
            assert (reply.status, "arena" in reply.url) == (200, True)
        assert len(list(tmp_path.glob("chat-*"))) == 1
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read().splitlines()[-1] == "[]"
    assert list(tmp_path.glob("chat-*")) == []
