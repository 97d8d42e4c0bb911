"""Peaks of processes: of the process itself, not of the one that started it."""

import json
import os
import subprocess
import sys

import pytest

from workbench.run.peak import peak_resident_bytes

MODULE = "import sys\nblock = bytearray(int(sys.argv[1]))\nblock[::4096] = b'x' * len(block[::4096])\n{end}\n"


def run(tmp_path, *arguments, end="pass", parent=None):
    (tmp_path / "taker.py").write_text(MODULE.format(end=end), encoding="utf-8")
    command = [sys.executable, "-m", "workbench.run.peak", str(tmp_path / "out.json"), str(parent or os.getpid())]
    from workbench.doctor.rehearsal import ROOT

    done = subprocess.run([*command, "taker", *arguments], env={"PYTHONPATH": f"{ROOT}:{tmp_path}"}, check=False)
    out = tmp_path / "out.json"
    return done.returncode, json.loads(out.read_text(encoding="utf-8")) if out.exists() else None


def test_what_a_module_takes_is_counted(tmp_path):
    code, little = run(tmp_path, "1000")
    assert code == 0
    _, much = run(tmp_path, str(100 << 20))
    assert much["peak_rss_bytes"] - little["peak_rss_bytes"] == pytest.approx(100 << 20, rel=0.05)
    assert little["peak_rss_bytes"] < 100 << 20  # this process, with torch, is larger
    assert little["peak_gpu_bytes"] is None
    assert little["seconds"] > 0


def test_a_failed_module_is_measured_and_keeps_its_code(tmp_path):
    code, measured = run(tmp_path, "1000", end="raise SystemExit(2)")
    assert code == 2
    assert measured["peak_rss_bytes"] > 0


def test_the_peak_stays_when_the_memory_is_given_back():
    block = bytearray(64 << 20)
    block[::4096] = b"x" * len(block[::4096])
    high = peak_resident_bytes()
    del block
    assert peak_resident_bytes() > high - (1 << 20)  # the kernel counts in batches of pages


def test_a_command_whose_parent_is_gone_before_it_starts_ends_at_once(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    code, measured = run(tmp_path, "1000", end="import time; time.sleep(60); raise SystemExit(3)", parent=gone.pid)
    assert (code, measured) == (1, None)
