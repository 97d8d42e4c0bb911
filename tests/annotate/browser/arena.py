"""Somebody at the arena, for `test_arena` (two tiny runs) and `test_arena_page` (a worker without a model)."""

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.annotate.browser.conftest import PASSWORD, Server, see


class Player:
    """Somebody at the arena."""

    def __init__(self, page: Any, server: Server) -> None:
        self.page, self.server = page, server
        self.problems: list[str] = []
        page.on("pageerror", self._note)
        page.on("request", self._look_at)
        account = {"name": server.somebody(), "password": PASSWORD}
        page.context.request.post(f"{server.url}/login", form=account, max_redirects=0)
        page.goto(server.url)
        see(page, "#arena[aria-busy=false] #message")
        page.wait_for_function(
            "() => document.querySelector('#intro').offsetParent || !document.querySelector('#turn').hidden"
        )

    def _note(self, error: Any) -> None:
        self.problems.append(str(error))

    def _look_at(self, request: Any) -> None:
        if not request.url.startswith((self.server.url, "data:")):
            self.problems.append(f"foreign: {request.url}")

    def leave(self) -> None:
        self.page.remove_listener("pageerror", self._note)
        self.page.remove_listener("request", self._look_at)

    def say(self, text: str) -> None:
        self.page.focus("#message")
        self.page.keyboard.type(text)
        self.page.keyboard.press("Enter")

    def answered(self) -> list[str]:
        """Wait until both answers are complete; their texts."""
        see(self.page, "#arena[aria-busy=false] #turn:not([hidden])")
        return [self.page.text_content(f"#text-{side}") for side in (0, 1)]

    def writing(self) -> None:
        self.page.wait_for_function("() => document.querySelectorAll('.text.writing').length === 2")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)


def votes(server: Server) -> list[sqlite3.Row]:
    """Every vote, with its item."""
    connection = sqlite3.connect(server.store)
    connection.row_factory = sqlite3.Row
    rows = connection.execute(
        "SELECT judgement.*, item.prompt, item.item_id FROM judgement JOIN item ON item.id = judgement.item"
    ).fetchall()
    connection.close()
    return rows


@pytest.fixture
def play(window: Callable[..., Any]) -> Iterator[Callable[..., Player]]:
    players: list[Player] = []

    def begin(server: Server, **options: Any) -> Player:
        players.append(Player(window(f"{server.url}/login", **options), server))
        return players[-1]

    yield begin
    for player in players:
        player.leave()
    assert [problem for player in players for problem in player.problems] == []
