"""The arena's page over a worker without a model: reloads, dead processes, closed tabs, looks, the rendering corpus."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from annotate.arena.battles import Battles
from annotate.arena.routes import Arena
from annotate.campaign.battles import OPENED
from annotate.config import AnnotateConfig
from annotate.people.access import Access
from annotate.store.database import Store
from annotate.web.contents import PageContents
from annotate.web.texts import Texts
from tests.annotate.arena.conftest import FAKE_WORKER, KEY, wait_for
from tests.annotate.browser.arena import Player, play, votes
from tests.annotate.browser.conftest import Server, see
from tests.annotate.browser.corpus import CORPUS, SEEN
from tests.annotate.browser.test_accessibility import LOOKS, violations
from tests.annotate.conftest import make_item
from workbench.serve import engine as engines
from workbench.serve.engine import Engine

pytestmark = pytest.mark.slow
__all__ = ["play"]  # a fixture
RUNS = ["runs/one", "runs/two"]


class ArenaServer(Server):
    """The application of `annotate arena` in a thread, with answers of `fake_worker.py`."""

    runs = RUNS

    def application(self, config: AnnotateConfig, store: Store) -> Any:
        from annotate.arena.app import create_arena  # gradio takes seconds to load

        self.engine = Engine(self.runs, max_new_tokens=9, temperature=1.0, command="arena", option="tokens")
        self.engine.start()
        with store.write() as transaction:
            transaction.add_event(OPENED, 0.0, runs=self.runs)
        arena = Arena(store, Battles(self.runs, key=KEY, seed=0), self.engine, Texts(), 1.0)
        return create_arena(arena, PageContents("Arena"), Access(store, login=True, days=1), config.server)

    def kill(self) -> None:
        super().kill()
        self.engine.close()


@pytest.fixture(scope="module")
def arena(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArenaServer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "COMMAND", (sys.executable, str(FAKE_WORKER), "none"))
        server = ArenaServer(tmp_path_factory.mktemp("arena"), [make_item("unused")])
        server.start()
        yield server
        server.kill()


def test_a_battle_and_a_draft_survive_a_reload(arena: ArenaServer, play: Callable[..., Player]) -> None:
    player = play(arena)
    player.say("say 3 words")
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
    assert votes(arena)[-1]["choice"] == "both_bad"


def test_a_killed_worker_is_explained_and_starts_again(arena: ArenaServer, play: Callable[..., Player]) -> None:
    player = play(arena)
    player.say("wait for ever")
    player.writing()
    os.kill(arena.engine.pid, signal.SIGKILL)
    see(player.page, "#notice")
    assert "was killed (SIGKILL). It starts again" in player.page.text_content("#notice")
    player.press("Escape", "r")
    player.writing()
    player.press("Escape")  # stops both
    player.answered()
    assert player.page.is_hidden("#notice")


def test_no_vote_is_lost_with_the_server(arena: ArenaServer, play: Callable[..., Player]) -> None:
    player = play(arena)
    player.say("say 2 words")
    see(player.page, "#vote")
    before = len(votes(arena))
    arena.kill()
    player.press("Escape", "1", "Enter")
    see(player.page, "#notice")
    assert "kept in this browser" in player.page.text_content("#notice")
    arena.start()
    player.page.wait_for_function(
        "() => document.getElementById('saved').textContent.startsWith('Saved')", timeout=60_000
    )
    found = votes(arena)
    assert len(found) == before + 1
    assert found[-1]["strength"] == -3


def test_a_closed_tab_frees_the_worker(arena: ArenaServer, play: Callable[..., Player]) -> None:
    player = play(arena)
    player.say("wait for ever")
    player.writing()
    assert arena.engine.load == (2, 0)
    player.page.close()
    wait_for(lambda: arena.engine.load == (0, 0))


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing(look: str, arena: ArenaServer, play: Callable[..., Player]) -> None:
    player = play(arena, **LOOKS[look])
    assert violations(player.page) == []
    player.say("say 4 words")
    see(player.page, "#vote")
    assert violations(player.page) == []
    wide = player.page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0
    player.page.goto(f"{arena.url}/leaderboard")
    assert violations(player.page) == []


def test_the_rendering_corpus_as_answers_and_as_past_turns(arena: ArenaServer, play: Callable[..., Player]) -> None:
    page = play(arena).page
    turns, past = 0, 0
    for start in range(0, len(CORPUS) - 1, 2):
        texts = CORPUS[start : start + 2]
        page.fill("#message", json.dumps(texts))
        page.press("#message", "Enter")
        turns += 1
        page.wait_for_function(
            "past => document.querySelectorAll('#past .turn').length === past && "
            "document.getElementById('arena').getAttribute('aria-busy') === 'false'",
            arg=2 * turns - 1,
        )
        seen = page.evaluate(SEEN, "#turn .text")
        assert sorted(box["text"] for box in seen) == sorted(texts)
        kept = page.evaluate(SEEN, "#past .turn.assistant .text")[-1:] if turns > 1 else []
        assert all(box["text"] in CORPUS[start - 2 : start] for box in kept)
        past += len(kept)
        for box in (*seen, *kept):
            assert (box["hidden"], box["wide"]) == ([], False), start
        assert page.evaluate("() => document.querySelectorAll('.text :is(img,script,iframe,form,a,svg)').length") == 0
        if any("\x00" in text for text in texts):  # neither stored nor sent back: this battle ends here
            page.keyboard.press("Escape")
            page.keyboard.press("n")
            see(page, "#intro")
            turns = 0
    assert past == len(CORPUS) // 2 - 2
    assert page.title() == "Arena"  # no script ran


class ChatServer(ArenaServer):
    """The same with one run."""

    runs = RUNS[:1]


def test_a_chat_with_one_run(arena: ArenaServer, window: Callable[..., Any], tmp_path: Path) -> None:
    server = ChatServer(tmp_path, [make_item("unused")])
    server.start()
    try:
        page = window(f"{arena.url}/login")
        Player(page, server).leave()
        for text in ("say 2 words", "say 3 words"):
            see(page, "#arena[aria-busy=false] #send:enabled")
            page.fill("#message", text)
            page.press("#message", "Enter")
            see(page, "#arena[aria-busy=false] #turn:not([hidden])")
        assert page.locator("#past .turn").count() == 3
        assert page.locator("#vote").count() == 0
    finally:
        server.kill()
