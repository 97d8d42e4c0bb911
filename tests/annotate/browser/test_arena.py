"""The arena with two tiny runs in a browser: a battle of two turns by keyboard, stop, retry, vote."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from annotate.__main__ import main
from tests.annotate.browser.arena import Player, play, votes
from tests.annotate.browser.conftest import TINY, ServerProcess, see
from tests.annotate.conftest import make_item
from workbench.data.readers import read_preferences

pytestmark = pytest.mark.slow
__all__ = ["play"]  # a fixture
TOKENS = 60
"""Of an answer; the tiny base has 256 positions."""


class ArenaServer(ServerProcess):
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


@pytest.fixture(scope="module")
def arena(
    browser: Any, tmp_path_factory: pytest.TempPathFactory, sft_run: Path, other_run: Path
) -> Iterator[ArenaServer]:
    server = ArenaServer(tmp_path_factory.mktemp("arena"), sft_run, other_run)
    server.start()
    yield server
    server.kill()


def stop_in_mid_answer(page: Any, worker: psutil.Process, ask: Callable[[], None]) -> None:
    """Ask, and stop the first answer once it has some words, however fast the machine writes them."""
    worker.suspend()
    ask()
    while not page.text_content("#text-0"):
        worker.resume()
        time.sleep(0.002)
        worker.suspend()
        page.wait_for_timeout(50)
    with page.expect_response(lambda response: response.url.endswith("stop")):
        page.click("[data-stop='0']")
    worker.resume()
    page.wait_for_function("() => document.getElementById('state-0').textContent.startsWith('Stopped')")


def test_a_battle_of_two_turns_by_keyboard(arena: ArenaServer, play: Callable[..., Player], tmp_path: Path) -> None:
    player = play(arena)
    page = player.page
    before = len(votes(arena))
    player.say("Where is my parcel?")
    first = player.answered()
    page.check("[name=keep][value='1']")
    player.press("Escape")  # out of the radio buttons
    stop_in_mid_answer(page, arena.worker(), lambda: player.say("And my order?"))
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
    found = votes(arena)
    assert len(found) == before + 1
    assert (found[-1]["choice"], found[-1]["strength"]) == ("compared", 2)
    assert [turn["content"] for turn in json.loads(found[-1]["prompt"])][::2] == [
        "Where is my parcel?",
        "And my order?",
    ]
    out = tmp_path / "preferences.jsonl"
    assert main(["export", str(TINY), f"store.url={arena.store}", f"export.out={out}"]) == 0
    record = read_preferences(out)[-1]  # as `reward` reads it
    assert [turn.role for turn in record.prompt] == ["user", "assistant", "user"]
    assert (record.chosen_run, record.rejected_run) == (shown[1], shown[0])
    player.press("n")
    see(page, "#intro")
    assert page.text_content("#name-0") == "Answer A"


def test_what_does_not_fit_is_one_clear_error(arena: ArenaServer, play: Callable[..., Player]) -> None:
    player = play(arena)
    player.page.fill("#message", "Where is my parcel? " * 60)
    player.page.press("#message", "Enter")
    see(player.page, "#notice")
    assert "the base reads 256" in player.page.text_content("#notice")
    assert player.page.text_content("#notice").count("tokens") == 1
    player.press("Escape", "n")
    player.page.wait_for_selector("#notice", state="hidden")
