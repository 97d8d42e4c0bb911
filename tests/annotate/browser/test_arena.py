"""The arena in a browser: a battle of two turns by keyboard, stop, retry, vote; reloads, dead processes, looks."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.annotate.browser.conftest import PASSWORD, ROOT, Server
from tests.annotate.browser.test_accessibility import LOOKS, violations
from tests.annotate.conftest import make_item
from workbench.data.readers import read_preferences

pytestmark = pytest.mark.slow
TOKENS = 60
"""Of an answer; the tiny base has 256 positions."""


class ArenaServer(Server):
    """`python -m annotate arena` with two tiny runs."""

    def __init__(self, folder: Path, *runs: Path) -> None:
        super().__init__(folder, [make_item("unused")], f"arena.max_new_tokens={TOKENS}")
        self.runs = runs

    def command(self) -> list[str]:
        return ["annotate", "arena", *map(str, self.runs)]

    def worker(self) -> psutil.Process:
        """The process that writes answers."""
        assert self.process is not None
        (child,) = psutil.Process(self.process.pid).children()
        return child

    def kill(self) -> None:
        worker = self.worker()
        super().kill()
        worker.wait(timeout=20)  # it ends by itself

    def votes(self) -> list[sqlite3.Row]:
        connection = sqlite3.connect(self.store)
        connection.row_factory = sqlite3.Row
        rows = connection.execute(
            "SELECT judgement.*, item.prompt, item.item_id FROM judgement JOIN item ON item.id = judgement.item"
        ).fetchall()
        connection.close()
        return rows


@pytest.fixture(scope="module")
def arena(
    browser: Any, tmp_path_factory: pytest.TempPathFactory, sft_run: Path, other_run: Path
) -> Iterator[ArenaServer]:
    server = ArenaServer(tmp_path_factory.mktemp("arena"), sft_run, other_run)
    server.start()
    yield server
    server.kill()


class Player:
    """Somebody at the arena."""

    def __init__(self, page: Any, server: ArenaServer) -> None:
        self.page, self.server = page, server
        self.problems: list[str] = []
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        own = (server.url, "data:")
        page.on("request", lambda r: None if r.url.startswith(own) else self.problems.append(f"foreign: {r.url}"))
        page.goto(server.url)
        page.fill("[name=name]", server.somebody())
        page.fill("[name=password]", PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_selector("#arena[aria-busy=false] #message", timeout=30_000)
        page.wait_for_function(
            "() => document.querySelector('#intro').offsetParent || !document.querySelector('#turn').hidden"
        )

    def say(self, text: str) -> None:
        self.page.focus("#message")
        self.page.keyboard.type(text)
        self.page.keyboard.press("Enter")

    def answered(self) -> list[str]:
        """Wait until both answers are complete; their texts."""
        self.page.wait_for_selector("#arena[aria-busy=false] #turn:not([hidden])", timeout=60_000)
        return [self.page.text_content(f"#text-{side}") for side in (0, 1)]

    def writing(self) -> None:
        self.page.wait_for_function("() => document.querySelectorAll('.text.writing').length === 2")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)


@contextmanager
def slowed(process: psutil.Process) -> Iterator[psutil.Process]:
    """Let a process run for 2 of 52 ms."""
    done = threading.Event()

    def pause_and_run() -> None:
        with suppress(psutil.NoSuchProcess):
            while not done.is_set():
                process.suspend()
                time.sleep(0.05)
                process.resume()
                time.sleep(0.002)

    thread = threading.Thread(target=pause_and_run)
    thread.start()
    try:
        yield process
    finally:
        done.set()
        thread.join()


@pytest.fixture
def play(browser: Any) -> Iterator[Callable[..., Player]]:
    contexts, players = [], []

    def begin(server: ArenaServer, **options: Any) -> Player:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        contexts.append(context)
        players.append(Player(context.new_page(), server))
        return players[-1]

    yield begin
    for context in contexts:
        context.close()
    assert [problem for player in players for problem in player.problems] == []


def test_a_battle_of_two_turns_by_keyboard(arena: ArenaServer, play: Callable[..., Player], tmp_path: Path) -> None:
    player = play(arena)
    page = player.page
    before = len(arena.votes())
    player.say("Where is my parcel?")
    first = player.answered()
    page.check("[name=keep][value='1']")
    player.press("Escape")  # out of the radio buttons
    with slowed(arena.worker()):  # a fast machine would end both answers before one is stopped
        player.say("And my order?")
        player.writing()
        page.click("[data-stop='0']")
        page.wait_for_function("() => document.getElementById('state-0').textContent.startsWith('Stopped')")
    second = player.answered()
    assert "Stopped" in page.text_content("#state-0")
    assert page.text_content("#state-1") in ("", "Cut off at the largest length")
    past = page.locator("#past .text").all_text_contents()
    assert past == ["Where is my parcel?", first[1], "And my order?"]
    page.click("[data-retry='0']")
    page.wait_for_function("() => !document.getElementById('state-0').textContent.startsWith('Stopped')")
    retried = player.answered()
    assert retried[0] != second[0]
    assert retried[1] == second[1]
    hidden = page.content()
    assert not any(str(run) in hidden for run in arena.runs)
    player.press("Escape", "6", "Enter")
    page.wait_for_function("() => document.getElementById('saved').textContent.startsWith('Saved')")
    shown = [page.text_content(f"#name-{side}") for side in (0, 1)]
    assert sorted(shown) == sorted(map(str, arena.runs))
    votes = arena.votes()
    assert len(votes) == before + 1
    assert (votes[-1]["choice"], votes[-1]["strength"]) == ("compared", 2)
    assert [turn["content"] for turn in json.loads(votes[-1]["prompt"])][::2] == [
        "Where is my parcel?",
        "And my order?",
    ]
    out = tmp_path / "preferences.jsonl"
    command = [sys.executable, "-m", "annotate", "export", "configs/tiny/annotate.yaml"]
    subprocess.run([*command, f"store.url={arena.store}", f"export.out={out}"], cwd=ROOT, check=True)
    record = read_preferences(out)[-1]  # as `reward` reads it
    assert [turn.role for turn in record.prompt] == ["user", "assistant", "user"]
    assert (record.chosen_run, record.rejected_run) == (shown[1], shown[0])
    player.press("n")
    page.wait_for_selector("#intro:visible")
    assert page.text_content("#name-0") == "Answer A"


def test_a_battle_and_a_draft_survive_a_reload(arena: ArenaServer, play: Callable[..., Player]) -> None:
    player = play(arena)
    player.say("Where is my ticket?")
    texts = player.answered()
    player.press("Escape", "x")
    player.page.focus("#message")
    player.page.keyboard.type("a draft")
    player.page.reload()
    assert player.answered() == texts
    assert player.page.input_value("#message") == "a draft"
    assert player.page.get_attribute("#bad", "aria-pressed") == "true"
    player.press("Escape", "Enter")
    player.page.wait_for_function("() => document.getElementById('saved').textContent.startsWith('Saved')")
    assert arena.votes()[-1]["choice"] == "both_bad"


def test_what_does_not_fit_is_one_clear_error(arena: ArenaServer, play: Callable[..., Player]) -> None:
    player = play(arena)
    player.page.fill("#message", "Where is my parcel? " * 60)
    player.page.press("#message", "Enter")
    player.page.wait_for_selector("#notice:visible")
    assert "the base reads 256" in player.page.text_content("#notice")
    assert player.page.text_content("#notice").count("tokens") == 1
    player.press("Escape", "n")
    player.page.wait_for_selector("#notice", state="hidden")


def test_a_killed_worker_is_explained_and_starts_again(arena: ArenaServer, play: Callable[..., Player]) -> None:
    player = play(arena)
    with slowed(arena.worker()) as worker:
        player.say("Where is my refund?")
        player.writing()
        worker.kill()
    player.page.wait_for_selector("#notice:visible")
    assert "was killed (SIGKILL). It starts again" in player.page.text_content("#notice")
    player.press("Escape", "r")
    player.page.wait_for_selector("#vote:visible", timeout=60_000)
    assert player.page.is_hidden("#notice")


def test_no_vote_is_lost_with_the_server(arena: ArenaServer, play: Callable[..., Player]) -> None:
    player = play(arena)
    player.say("Where is my account?")
    player.page.wait_for_selector("#vote:visible", timeout=60_000)
    before = len(arena.votes())
    arena.kill()
    player.press("Escape", "1", "Enter")
    player.page.wait_for_selector("#notice:visible")
    assert "kept in this browser" in player.page.text_content("#notice")
    player.page.wait_for_timeout(1000)
    arena.start()
    player.page.wait_for_function(
        "() => document.getElementById('saved').textContent.startsWith('Saved')", timeout=60_000
    )
    votes = arena.votes()
    assert len(votes) == before + 1
    assert votes[-1]["strength"] == -3


def test_a_closed_tab_frees_the_worker(arena: ArenaServer, play: Callable[..., Player]) -> None:
    player = play(arena)
    worker = arena.worker()
    worker.suspend()
    player.say("Where is my booking?")
    player.page.wait_for_timeout(300)
    player.page.close()
    time.sleep(3)  # the server notices within `QUIET_SECONDS`
    worker.resume()
    spent = _settled(worker)
    time.sleep(1)
    assert _settled(worker) - spent < 0.2


def _settled(worker: psutil.Process) -> float:
    time.sleep(0.5)
    times = worker.cpu_times()
    return float(times.user + times.system)


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing(look: str, arena: ArenaServer, play: Callable[..., Player]) -> None:
    player = play(arena, **LOOKS[look])
    assert violations(player.page) == []
    player.say("Where is my invoice?")
    player.page.wait_for_selector("#vote:visible", timeout=60_000)
    assert violations(player.page) == []
    wide = player.page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0
    player.page.goto(f"{arena.url}/leaderboard")
    assert violations(player.page) == []


def test_a_chat_with_one_run(browser: Any, tmp_path: Path, sft_run: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "workbench", "chat", str(sft_run), "server.port=17993", "arena.max_new_tokens=20"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        address = next(line for line in process.stdout if line.startswith("http")).split()[0]
        page = browser.new_page()
        page.goto(address)
        for text in ("Where is my order?", "And my parcel?"):
            page.wait_for_selector("#arena[aria-busy=false] #send:enabled", timeout=30_000)
            page.fill("#message", text)
            page.press("#message", "Enter")
            page.wait_for_selector("#arena[aria-busy=false] #turn:not([hidden])", timeout=30_000)
        assert page.locator("#past .turn").count() == 3
        assert page.locator("#vote").count() == 0
        page.close()
        os.kill(process.pid, signal.SIGTERM)
    assert list(tmp_path.glob("chat-*")) == []
