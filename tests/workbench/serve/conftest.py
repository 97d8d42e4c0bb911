"""A server on a free port with the small runs of `tests/conftest.py`, in a process of its own."""

import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

KEY = "a-long-key-for-alice-0123456789"


@dataclass
class Served:
    """A running server."""

    process: subprocess.Popen[str]
    url: str
    folder: Path
    sft: Path
    reward: Path


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def start(folder: Path, *words: str) -> tuple[subprocess.Popen[str], str]:
    """Start a server, and wait until it is ready."""
    port = free_port()
    command = [sys.executable, "-m", "workbench", "serve", *words, "--port", str(port)]
    with (folder / "errors").open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, text=True)
    for _ in range(1200):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health"):
                return process, f"http://127.0.0.1:{port}"
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, (folder / "errors").read_text()
            time.sleep(0.1)
    raise AssertionError("the server did not start")


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, sft_run: Path, reward_run: Path) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    keys = folder / "keys"
    keys.write_text(f"alice {KEY}\nbob another-key-of-somebody-else\n")
    keys.chmod(0o600)
    words = [str(sft_run), str(reward_run), "--keys", str(keys), "--feedback", str(folder / "feedback")]
    process, url = start(folder, *words, "--log", str(folder / "log.jsonl"), "--at-once", "8", "--max-new-tokens", "24")
    yield Served(process, url, folder, sft_run, reward_run)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
