"""Commands that follow one another do not disturb one another."""

import os
import signal
import subprocess
import sys
import time

import pytest

from workbench.run import lock
from workbench.run.process import start

ASKS = """
from pathlib import Path
from wandb.sdk.data_types._private import MEDIA_TMP

raise SystemExit(0 if Path(MEDIA_TMP.name).is_dir() else 3)
"""


WAITS = """
import multiprocessing
import time

lock = multiprocessing.RLock()  # as progress bars make one
print("ready", flush=True)
try:
    time.sleep(120)
except BaseException as error:
    print(type(error).__name__, flush=True)
    raise
"""
RUNS = """
import sys
from pathlib import Path

from workbench.run.command_line import run_main
from workbench.run.steps import Step, run_steps

run_main(lambda words: run_steps([Step(0, "waits", ("waits",))], Path(words[0])) and None)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["to one", "to the group"])
def test_a_signal_stops_the_command_that_is_running_and_leaves_nothing(tmp_path, number, send):
    """`timeout` sends to the group, as does a terminal at Ctrl-C."""
    (tmp_path / "waits.py").write_text(WAITS, encoding="utf-8")
    log = tmp_path / "out/logs/seed-0-waits.txt"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    command = [sys.executable, "-c", RUNS, str(tmp_path / "out")]
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job ignores it
    ) as series:
        deadline = time.monotonic() + 120
        while not (log.is_file() and "ready" in log.read_text(encoding="utf-8")) and time.monotonic() < deadline:
            time.sleep(0.1)
        send(series.pid, number)
        _, said = series.communicate(timeout=60)  # ends with the last process that has this stream
    assert series.returncode == 128 + number, said
    assert "ed: start the same command again" in said
    assert "leaked" not in said
    assert log.read_text(encoding="utf-8").split()[:2] == ["ready", "Terminated"]
    lock.hold(tmp_path / "out")
    lock.release(tmp_path / "out")


@pytest.mark.slow
def test_a_command_that_ends_leaves_the_temporary_folders_of_imported_libraries(tmp_path, monkeypatch):
    (tmp_path / "asks.py").write_text(ASKS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for _ in range(2):
        process = start(["asks"], tmp_path / "measured.json", tmp_path / "log.txt")
        process.join()
        assert process.exitcode == 0, (tmp_path / "log.txt").read_text(encoding="utf-8")
