"""A checkpoint is complete or it is not there: after errors, kills at any moment, and on a full disk."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import save_file

from workbench.run import checkpoints
from workbench.run.checkpoints import (
    checkpoint_steps,
    full_disk_explained,
    latest_checkpoint,
    publish_folder,
    save_checkpoint,
    write_text_atomically,
)
from workbench.run.errors import WorkbenchError


def writer(text):
    def write(folder):
        (folder / "sub").mkdir()
        (folder / "a").write_text(text)
        (folder / "sub/b").write_text(text)

    return write


def failing(folder):
    (folder / "a").write_text("half")
    raise RuntimeError("out of luck")


def test_steps_are_ordered_as_numbers_and_the_oldest_pruned(tmp_path):
    for step in (2, 9, 10):
        save_checkpoint(tmp_path, step, writer(str(step)), keep_last=2)
    assert checkpoint_steps(tmp_path) == [9, 10]
    assert latest_checkpoint(tmp_path) == tmp_path / "step-10"
    assert (tmp_path / "step-10/sub/b").read_text() == "10"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-10", "step-9"]


def test_nothing_there_yet(tmp_path):
    assert checkpoint_steps(tmp_path / "none") == []
    assert latest_checkpoint(tmp_path / "none") is None


def test_names_that_are_no_checkpoints_are_ignored(tmp_path):
    for name in ("step-x", ".writing-5", "step-5.old", ".trainer"):
        (tmp_path / name).mkdir()
    assert checkpoint_steps(tmp_path) == []


def test_a_failing_writer_leaves_the_older_ones_and_no_rubbish(tmp_path):
    save_checkpoint(tmp_path, 1, writer("good"), keep_last=1)
    for step in (1, 2):
        with pytest.raises(RuntimeError, match="out of luck"):
            save_checkpoint(tmp_path, step, failing, keep_last=1)
    assert [p.name for p in tmp_path.iterdir()] == ["step-1"]
    assert (tmp_path / "step-1/a").read_text() == "good"


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    (tmp_path / ".writing-3").mkdir()
    (tmp_path / ".writing-3/a").write_text("half")
    save_checkpoint(tmp_path, 4, writer("x"), keep_last=2)
    assert [p.name for p in tmp_path.iterdir()] == ["step-4"]


def test_the_same_step_again_replaces_it(tmp_path):
    save_checkpoint(tmp_path, 1, writer("old"), keep_last=2)
    save_checkpoint(tmp_path, 1, writer("new"), keep_last=2)
    assert (tmp_path / "step-1/a").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["step-1"]


def test_a_kill_while_deleting_leaves_no_half_checkpoint_under_its_name(tmp_path, monkeypatch):
    for step in (1, 2):
        save_checkpoint(tmp_path, step, writer(str(step)), keep_last=2)
    real = shutil.rmtree

    def delete_one_file_and_die(folder, ignore_errors=False):
        if folder.exists():
            (folder / "a").unlink()
            raise KeyboardInterrupt
        real(folder, ignore_errors=ignore_errors)

    monkeypatch.setattr(checkpoints.shutil, "rmtree", delete_one_file_and_die)
    for step in (3, 2):  # 3 deletes the oldest one, 2 replaces itself
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path, step, writer("x"), keep_last=2)
    assert checkpoint_steps(tmp_path) == [2, 3]
    for step in (2, 3):
        assert (tmp_path / f"step-{step}/a").exists()
        assert (tmp_path / f"step-{step}/sub/b").exists()


def test_text_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "new" / "run.json"
    write_text_atomically(path, "old")

    def fail(descriptor):
        raise OSError("disk gone")

    monkeypatch.setattr(checkpoints.os, "fsync", fail)
    with pytest.raises(OSError, match="disk gone"):
        write_text_atomically(path, "new, much longer")
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["run.json"]


def test_folder_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "adapter"
    publish_folder(path, writer("old"))
    with pytest.raises(RuntimeError, match="out of luck"):
        publish_folder(path, failing)
    assert (path / "sub/b").read_text() == "old"
    publish_folder(path, lambda folder: (folder / "only").write_text("new"))
    assert [p.name for p in path.iterdir()] == ["only"]
    assert [p.name for p in tmp_path.iterdir()] == ["adapter"]


SAVE_FOREVER = """
import itertools, sys
from pathlib import Path
from workbench.run.checkpoints import latest_checkpoint, save_checkpoint

root = Path(sys.argv[1])

def write(folder):
    for number in range(12):
        (folder / f"file-{number}").write_bytes(bytes([step % 256]) * 300_000)

last = latest_checkpoint(root)
for step in itertools.count(int(last.name[5:]) + 1 if last else 1):
    save_checkpoint(root, step, write, keep_last=2)
"""


def test_a_process_killed_at_any_moment_leaves_complete_checkpoints_only(tmp_path):
    """SIGKILL at random moments of a process that does nothing but save; each time the next one goes on."""
    draw = random.Random(0)
    before = 0
    for _ in range(6):
        with subprocess.Popen([sys.executable, "-c", SAVE_FOREVER, str(tmp_path)], cwd=os.getcwd()) as process:
            deadline = time.monotonic() + 60
            while (checkpoint_steps(tmp_path) or [0])[-1] < before + 2 and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(draw.uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
        steps = checkpoint_steps(tmp_path)
        assert steps[-1] >= before + 2, "no progress after a kill"
        for step in steps:
            files = sorted((tmp_path / f"step-{step}").iterdir())
            assert len(files) == 12, f"step-{step} is incomplete"
            assert all(file.read_bytes() == bytes([step % 256]) * 300_000 for file in files)
        before = steps[-1]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MiB."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small file system needs root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.decode().strip()}")
    yield tmp_path
    # Lazily: a failed torch.save keeps its file open until the exception is collected.
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


MIB = 1 << 20


def as_libraries_do(folder, size):
    """A full disk under a name that says nothing of it, with the file closed: its space is free once it is deleted."""
    try:
        (folder / "state").write_bytes(b"x" * size)
    except OSError:
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534") from None


WRITERS = {
    "bytes": lambda folder, size: (folder / "state").write_bytes(b"x" * size),
    "unnamed": as_libraries_do,
    "torch": lambda folder, size: torch.save({"x": torch.zeros(size // 4)}, folder / "state"),
    "safetensors": lambda folder, size: save_file({"x": torch.zeros(size // 4)}, folder / "state"),
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("size", [MIB, 8 * MIB])
def test_a_full_disk_is_explained_and_the_last_checkpoint_stays(small_disk, kind, size):
    """Sizes: several that fit before the disk is full, and one that fits nowhere."""
    run = small_disk / "run"
    saved = []
    save_checkpoint(run / "checkpoints", 0, lambda folder: (folder / "state").write_bytes(b"first"), keep_last=99)

    def save_until_full():
        with full_disk_explained(run):
            for step in range(1, 9):
                saved.append(
                    save_checkpoint(run / "checkpoints", step, lambda folder: WRITERS[kind](folder, size), keep_last=99)
                )

    with pytest.raises(WorkbenchError) as caught:
        save_until_full()
    error = caught.value
    last = len(saved)
    assert error.place == str(run)
    assert "disk is full" in error.problem
    assert f"step-{last}" in error.expected
    assert "--resume" in error.remedy
    assert checkpoint_steps(run / "checkpoints") == list(range(last + 1))
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == [f"step-{n}" for n in range(last + 1)]
    sizes = {(folder / "state").stat().st_size for folder in saved}
    assert len(sizes) <= 1, "a checkpoint was cut"


def test_a_full_disk_is_explained_for_single_files_and_folders(small_disk):
    write_text_atomically(small_disk / "run/run.json", "old")
    with pytest.raises(WorkbenchError, match="disk is full"), full_disk_explained(small_disk / "run"):
        write_text_atomically(small_disk / "run/run.json", "x" * 8 * MIB)
    assert (small_disk / "run/run.json").read_text() == "old"
    with pytest.raises(OSError, match="No space left") as caught:
        write_text_atomically(small_disk / "run/run.json", "x" * 8 * MIB)
    assert caught.value.filename == str(small_disk / "run/run.json")
    with pytest.raises(WorkbenchError, match="disk is full"):
        publish_folder(small_disk / "run/adapter", lambda folder: WRITERS["torch"](folder, 8 * MIB))
    assert not (small_disk / "run/adapter").exists()


def test_other_failures_are_not_put_down_to_the_disk(tmp_path):
    with pytest.raises(RuntimeError, match="shapes differ"), full_disk_explained(tmp_path / "run" / "not-there"):
        raise RuntimeError("shapes differ")
    with pytest.raises(WorkbenchError, match="mine"), full_disk_explained(tmp_path):
        raise WorkbenchError("x", "mine")


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder").mkdir()
    for place in ("file/below.html", "folder"):
        with pytest.raises(WorkbenchError, match=r"cannot be written: .*\n.*\n.*give another path"):
            write_text_atomically(tmp_path / place, "new")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "kept"
    with pytest.raises(WorkbenchError, match="cannot be written"):
        publish_folder(tmp_path / "file" / "adapter", lambda folder: None)
