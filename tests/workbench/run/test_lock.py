"""A run folder is one process's at a time, and free again when that process is dead."""

import errno
import os
import shutil
import signal
import subprocess
import sys

import pytest

from workbench.run import lock
from workbench.run.config import Section
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder

HOLDER = """
import sys, time
from pathlib import Path
from workbench.run import lock
lock.hold(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


class Config(Section):
    seed: int = 0


def create(path, **options):
    return RunFolder.create(path, phase="sft", config=Config(), **options)


@pytest.fixture
def run(tmp_path):
    folder = create(tmp_path / "run")
    folder.release()
    return folder


@pytest.fixture
def holder(run):
    """Another process that holds the folder."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(run.path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.mark.parametrize("options", [{"resume": True}, {"overwrite": True}, {}])
def test_a_folder_in_use_is_refused_and_left_as_it_was(run, holder, options):
    before = run.record_path.read_bytes()
    with pytest.raises(WorkbenchError, match=rf"is in use by process {holder.pid} on \S+, since 20") as caught:
        create(run.path, **options)
    assert "wait until that process ends" in caught.value.remedy
    assert run.record_path.read_bytes() == before


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("options", [{"resume": True}, {"overwrite": True}])
def test_a_folder_that_cannot_be_written_is_named_and_left_as_it_was(run, options, number, monkeypatch):
    """As on a read-only disk; nobody refuses root."""
    before, really = run.record_path.read_bytes(), os.open

    def refuse(path, flags, *mode, **more):
        if flags & os.O_CREAT:
            raise OSError(number, os.strerror(number), str(path))
        return really(path, flags, *mode, **more)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(WorkbenchError, match=f"{run.path}: cannot be written: {os.strerror(number)}") as caught:
        create(run.path, **options)
    assert "give another path" in caught.value.remedy
    assert run.record_path.read_bytes() == before


def test_a_dead_process_holds_nothing(run, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert create(run.path, resume=True) == run


def test_a_copy_of_a_folder_in_use_is_free(run, holder, tmp_path):
    shutil.copytree(run.path, tmp_path / "copy")
    assert create(tmp_path / "copy", resume=True).path == tmp_path / "copy"


def test_the_process_that_holds_it_may_go_on_and_start_anew(run):
    create(run.path, resume=True)
    create(run.path, resume=True)
    create(run.path, overwrite=True)
    assert not os.get_inheritable(lock._held[run.path.resolve()])
    assert f"is in use by process {os.getpid()}" in checked_elsewhere(run.path)
    run.release()
    assert checked_elsewhere(run.path) == ""


def checked_elsewhere(path):
    """What another process says of the folder; nothing if it is free."""
    code = "import sys, pathlib, workbench.run.lock as lock; lock.check_free(pathlib.Path(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


def test_a_finished_run_needs_no_lock(run, holder):
    run.update_record(status="finished")
    holder.kill()
    holder.wait()
    assert create(run.path, resume=True).finished
    assert checked_elsewhere(run.path) == ""
