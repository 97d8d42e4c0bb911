import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from annotate.__main__ import main
from annotate.config import AnnotateConfig
from tests.annotate.test_simulate import help_desk_items
from workbench.data.readers import read_preferences, write_records
from workbench.run.config import load_config
from workbench.run.errors import WorkbenchError

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "datasets", "peft", "trl", "bitsandbytes")


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """The tiny configuration with every path in a folder of the test."""
    values = {
        "pairs.out": tmp_path / "items.jsonl",
        "store.url": tmp_path / "labels.sqlite",
        "export.out": tmp_path / "preferences.jsonl",
    }
    return [str(ROOT / "configs/tiny/annotate.yaml"), *(f"{key}={value}" for key, value in values.items())]


def _run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


_LOADED = f"import sys; print([name for name in {HEAVY} if name in sys.modules])"


def test_help_loads_no_model_library() -> None:
    code = f"""
from annotate.__main__ import main
try:
    main(["--help"])
except SystemExit as ended:
    assert not ended.code
{_LOADED}"""
    assert _run(code).splitlines()[-1] == "[]"


@pytest.mark.slow
def test_the_page_and_the_labels_load_no_model_library(tmp_path: Path, arguments: list[str]) -> None:
    write_records(tmp_path / "items.jsonl", help_desk_items(3))
    code = f"""
import workbench.serve.http
workbench.serve.http.run = lambda app, listener, **_: listener.close()
from annotate.__main__ import main
arguments = {arguments!r}
main(["serve", *arguments, "server.port={_free_port()}"])
for verb in ("simulate", "status", "export"):
    main([verb, *arguments])
{_LOADED}"""
    assert _run(code).splitlines()[-1] == "[]"


def test_from_items_to_preferences(tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    write_records(tmp_path / "items.jsonl", help_desk_items(40))
    for verb in ("simulate", "export"):
        assert main([verb, *arguments]) == 0
    records = read_preferences(tmp_path / "preferences.jsonl")
    assert 30 <= len(records) <= 40
    assert main(["export", *arguments, "--raw", str(tmp_path / "raw.jsonl")]) == 0
    for name in ("preferences.jsonl", "raw.jsonl"):  # they name annotators
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    capsys.readouterr()
    assert main(["status", *arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["items"] == 40
    assert report["simulated"]["judgements"] == report["simulated"]["wanted"] >= 40
    assert main(["status", *arguments]) == 0
    assert "Simulated annotators" in capsys.readouterr().out


def test_rows_of_a_file_to_load_are_taken_as_the_configuration_says(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"messages": "-", "prompt": f"q {n}", "response_a": "yes", "response_b": "no"} for n in range(3)]
    file = str(tmp_path / "other.jsonl")
    write_records(
        tmp_path / "other.jsonl", [*rows, {"messages": "-", "prompt": "", "response_a": "a", "response_b": "b"}]
    )
    with pytest.raises(WorkbenchError, match="column 'messages' holds text"):
        main(["load", *arguments, file])
    with pytest.raises(WorkbenchError, match="'prompt' is empty"):
        main(["load", *arguments, file, "data.ignore=[messages]"])
    assert main(["load", *arguments, file, "data.ignore=[messages]", "data.bad_rows=skip"]) == 0
    assert "3 new" in capsys.readouterr().out


def test_a_backup_comes_back(tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    write_records(tmp_path / "items.jsonl", help_desk_items(4))
    copy = str(tmp_path / "monday.sqlite")
    assert main(["load", *arguments, str(tmp_path / "items.jsonl")]) == 0
    assert main(["backup", *arguments, copy]) == 0
    assert main(["simulate", *arguments]) == 0
    assert main(["restore", *arguments, copy]) == 0
    assert (
        f"labels.sqlite: restored from {copy}; everybody has to log in again; previous store: "
        in capsys.readouterr().out
    )
    assert main(["status", *arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["items"], "simulated" in report) == (4, False)
    with pytest.raises(WorkbenchError, match="pg_restore"):
        main(["restore", *arguments, copy, "store.url=postgresql://localhost/labels"])


@pytest.mark.parametrize(
    "words",
    [
        ["status", "store.url=postgresql://ann:s3cret@db/labels"],
        ["serve", "--dry-run", "store.url=postgresql://db/labels?user=ann&password=s3cret"],
        ["copy", "postgresql+pg8000://ann:s3cret@db/labels"],
    ],
)
def test_a_database_password_is_never_taken_from_a_command_line(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        WorkbenchError, match=r"password[\s\S]*PGPASSWORD or ~/\.pgpass[\s\S]*ANNOTATE_STORE_URL"
    ) as told:
        main([words[0], *arguments, *words[1:]])
    assert "s3cret" not in str(told.value) + capsys.readouterr().out


def test_the_environment_gives_an_address_that_the_configuration_does_not(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANNOTATE_STORE_URL", "postgresql://ann:s3cret@db/labels")
    config, _ = load_config(AnnotateConfig, Path(arguments[0]), ["store.url=null"])
    assert config.store_url == "postgresql://ann:s3cret@db/labels"
    config, _ = load_config(AnnotateConfig, Path(arguments[0]), ["store.url=mine.sqlite"])
    assert config.store_url == "mine.sqlite"


@pytest.mark.parametrize("name", ["tiny", "llama-7b"])
@pytest.mark.parametrize(
    "verb", ["pairs", "serve", "simulate", "load", "export", "status", "backup", "restore", "copy", "annotator"]
)
def test_shipped_configurations_are_read(name: str, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = ROOT / f"configs/{name}/annotate.yaml"
    assert path.read_text().startswith("#")
    assert main([verb, str(path), "--dry-run"]) == 0
    assert "  temperatures: [0.7, 1.0" in capsys.readouterr().out
    config, _ = load_config(AnnotateConfig, path)
    assert config.store_url.endswith("labels.sqlite")


def test_the_store_is_beside_the_items_by_default(arguments: list[str]) -> None:
    overrides = [*arguments[1:2], "store.url=null"]
    config, _ = load_config(AnnotateConfig, Path(arguments[0]), overrides)
    assert Path(config.store_url) == Path(config.pairs.out).with_name("labels.sqlite")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_port_in_use_is_named(tmp_path: Path, arguments: list[str]) -> None:
    write_records(tmp_path / "items.jsonl", help_desk_items(2))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(WorkbenchError, match=f"cannot listen on 127.0.0.1:{port}"):
            main(["serve", *arguments, f"server.port={port}"])


@pytest.mark.slow
def test_bad_input_ends_with_code_2_and_no_traceback(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "annotate", "serve", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 2
    assert "there are no pairs to label yet" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["servee"], "did you mean 'serve'"),
        (["status"], "no such label store"),
        (["status", "queue.overlapp=2"], "did you mean queue.overlap"),
        (["simulate", "queue.overlap=0"], "greater than 0"),
        (["annotator"], "cannot read"),
        (["upgrade"], "no such label store"),
        (["backup", "out.sqlite"], "no such label store"),
        (["restore", "none.sqlite"], "no such file"),
        (["restore"], "cannot read"),
        (["copy"], "cannot read"),
        (["copy", "other.sqlite"], "no such label store"),
        (["export"], "no such label store"),
        (["campaign", "report"], "no such label store"),
    ],
)
def test_mistakes_are_explained(arguments: list[str], argv: list[str], problem: str) -> None:
    with pytest.raises(WorkbenchError, match=problem):
        main([argv[0], *arguments, *argv[1:]])


def test_a_bad_line_in_the_items_is_named(tmp_path: Path, arguments: list[str]) -> None:
    write_records(tmp_path / "items.jsonl", help_desk_items(2))
    with (tmp_path / "items.jsonl").open("a") as file:
        file.write("{broken\n")
    with pytest.raises(WorkbenchError, match=r"items\.jsonl, line 3"):
        main(["simulate", *arguments])


def test_accounts_from_the_command_line(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def passwords(text: str) -> Callable[[], str]:
        return lambda: text + "\n"

    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    monkeypatch.setattr("sys.stdin.readline", passwords("a long password"), raising=False)
    assert main(["annotator", *arguments, "add", "ann", "--role", "admin"]) == 0
    assert main(["annotator", *arguments, "list"]) == 0
    assert "ann  admin" in capsys.readouterr().out
    assert main(["annotator", *arguments, "add", "bea"]) == 0
    assert main(["annotator", *arguments, "role", "bea", "reviewer"]) == 0
    assert main(["annotator", *arguments, "list"]) == 0
    assert "bea  reviewer" in capsys.readouterr().out
    assert main(["upgrade", *arguments]) == 0
    assert "already has this version" in capsys.readouterr().out


def test_names_of_any_script_from_a_shell_without_a_language(arguments: list[str]) -> None:
    environment = {**os.environ, "LC_ALL": "C"}
    command = [sys.executable, "-m", "annotate", "annotator", *arguments]
    for words in (["add", "Zoë"], ["list"]):
        done = subprocess.run(
            [*command, *words], input=b"a long password\n", env=environment, capture_output=True, cwd=ROOT, timeout=120
        )
        assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == "Zoë  annotator\n"


def _status(address: str) -> int:
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    for _ in range(100):
        try:
            with opener.open(address, timeout=20) as reply:
                return int(reply.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:  # the socket listens before the server answers
            time.sleep(0.1)
    raise AssertionError("no answer")


def _wake_ups(pid: int) -> int:
    """How often the threads of a process went to sleep by themselves, and so were woken before."""
    states = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status")]
    return sum(int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", state, re.MULTILINE).group(1)) for state in states)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_a_server_that_is_stopped_says_so(tmp_path: Path, arguments: list[str]) -> None:
    """No word of --resume, which no verb here has."""
    write_records(tmp_path / "items.jsonl", help_desk_items(2))
    command = [sys.executable, "-m", "annotate", "serve", *arguments, f"server.port={_free_port()}"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background inherits it ignored
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "loading …\n"  # before anything that takes long
        link = next(line.split()[0] for line in server.stdout if "Ctrl-C stops it" in line)
        assert _status(link.partition("?")[0] + "api/v1/me") == 401
        assert _status(link) == 200
        assert _status(link[:-1]) == 403
        before = _wake_ups(server.pid)
        time.sleep(1)
        assert _wake_ups(server.pid) - before < 100, "idle; Gradio's queue would wake a thousand times a second"
        server.send_signal(signal.SIGINT)
        _, said = server.communicate(timeout=60)
    assert said.splitlines()[-1] == "stopped; everything saved so far is in the store"
    assert "Traceback" not in said
    assert server.returncode == 130


def test_load_imports_judgements_and_renames_columns(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "table.csv"
    path.write_text("q,response_a,response_b,winner\nWhy?,So,Thus,a\n", encoding="utf-8")
    load = ["load", *arguments, str(path), "--map", "q=prompt"]
    assert main([*load, "--labels-by", "old"]) == 0
    assert "1 new, 0 known; 1 judgements imported" in capsys.readouterr().out
    with pytest.raises(WorkbenchError, match="add --labels-by NAME"):
        main([*load, "--as-people"])
    with pytest.raises(WorkbenchError, match="--map q: cannot be read"):
        main([*load, "--map", "q"])
    for raw in (False, True):
        out = tmp_path / f"{raw}.jsonl"
        words = ["--raw", str(out)] if raw else [f"export.out={out}"]
        assert main(["export", *arguments, *words, "export.names=hash"]) == 0
        (record,) = map(json.loads, out.read_text(encoding="utf-8").splitlines())
        assert re.fullmatch("annotator-[0-9a-f]{12}", record["annotator"] if raw else record["annotators"][0])
