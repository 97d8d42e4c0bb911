"""Battles without a model: a worker that writes the words it is asked for."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from annotate.arena.battles import Battles, Written
from workbench.data.records import Message
from workbench.serve import engine as engines
from workbench.serve.engine import Engine, Request, Want

FAKE_WORKER = Path(__file__).with_name("fake_worker.py")
KEY = "a secret of the store"


def asked(*texts: str) -> tuple[Message, ...]:
    """A conversation: the user, the assistant, and so on."""
    return tuple(Message(role="assistant" if n % 2 else "user", content=text) for n, text in enumerate(texts))


def both(battles: Battles, battle: str, prompt: tuple[Message, ...], left: str, right: str) -> list[Written]:
    return [battles.seal(battle, prompt, side, text, ended=True) for side, text in enumerate((left, right))]


class Heard:
    """What a request was told."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, dict[str, Any]]] = []

    def __call__(self, index: int, line: dict[str, Any]) -> None:
        self.lines.append((index, line))

    @property
    def ends(self) -> list[dict[str, Any]]:
        return [line for _, line in self.lines if "add" not in line]


def request(account: int, *texts: str) -> tuple[Request, Heard]:
    """A request for one answer per text; see `fake_worker.py`."""
    heard = Heard()
    wants = [Want(run, [{"role": "user", "content": text}], seed=0) for run, text in enumerate(texts)]
    return Request(account, wants, heard), heard


def wait_for(condition: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def fake_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file; while it says `die` or `fatal`, the next workers fail at their start."""
    control = tmp_path / "control"
    monkeypatch.setattr(engines, "COMMAND", (sys.executable, str(FAKE_WORKER), str(control)))
    return control


@pytest.fixture
def engine(fake_worker: Path) -> Iterator[Engine]:
    started = Engine(["one", "two", "three"], max_new_tokens=5, temperature=1.0, command="arena", option="tokens")
    started.start()
    yield started
    started.close()
