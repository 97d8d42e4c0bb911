"""What goes wrong on the way: a server that dies, replies that are lost, impatient fingers, two tabs, two people."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.annotate.browser.conftest import Reader, Server, ServerProcess, requests_of
from tests.annotate.conftest import make_item

pytestmark = pytest.mark.slow


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server that can be killed."""
    server = ServerProcess(tmp_path, [make_item(f"i{n}") for n in range(9)], "queue.overlap=1")
    server.start()
    yield server
    server.kill()


def test_answers_survive_a_killed_server(mortal: ServerProcess, opened: Callable[..., Reader]) -> None:
    reader, server = opened(mortal), mortal
    reader.answer("2")
    reader.saved()
    reader.fetched_ahead()
    server.kill()
    reader.answer("7")  # the card that was fetched ahead is shown
    reader.press("f", "2", "1")
    reader.see("#notice")
    assert "kept in this browser" in reader.page.text_content("#notice")
    assert reader.page.text_content("#unsaved") == "2 answers not saved yet"
    reader.press("h")
    reader.page.wait_for_function("() => document.querySelectorAll('#history-list .earlier').length === 2")
    assert reader.page.locator("#history-list .earlier", has_text="not saved yet").count() == 2
    reader.press("Escape")
    server.start()
    rows = reader.judgements()
    reader.ready()
    assert [(row["shown"], row["flag"], row["revision"]) for row in rows] == [
        (-2, None, 1),
        (3, None, 1),
        (-3, "unsafe", 1),
    ]
    assert len({row["item"] for row in rows}) == 3
    assert reader.page.is_hidden("#unsaved")
    assert reader.page.is_hidden("#notice")
    reader.answer("4")
    assert len(reader.judgements()) == 4
    assert reader.problems == []


def test_answers_survive_a_page_that_is_closed_while_the_server_is_away(reader: Reader, server: Server) -> None:
    reader.page.route(requests_of("submit"), lambda route: route.abort())
    reader.answer("3")
    reader.see("#notice:not([hidden])")
    reader.page.unroute(requests_of("submit"))
    reader.page.reload()
    reader.ready()
    assert [row["shown"] for row in reader.judgements()] == [-1]


def test_labelling_goes_on_without_a_network_and_says_when_it_cannot(reader: Reader) -> None:
    reader.see("#annotate[data-ahead='5']")
    reader.page.context.set_offline(True)
    for key in "12345":
        reader.answer(key)
    assert reader.page.text_content("#saved") == "Kept here: B is slightly better"
    reader.press("6")  # the last card that the browser has
    reader.see("#nothing:not([hidden])")
    waiting = "The next pair comes when the connection is back; 6 answers wait."
    assert reader.page.text_content("#reason") == waiting
    assert reader.page.text_content("#saved") == "Kept here: B is better"
    assert reader.server.judgements(reader.name) == []
    reader.press("u", "7", "x")
    assert reader.page.text_content("#reason") == waiting
    _an_hour_passes(reader.server)
    reader.page.context.set_offline(False)
    assert [row["shown"] for row in reader.judgements()] == [-3, -2, -1, 0, 1, 2]
    reader.ready()
    reader.page.wait_for_function("() => document.getElementById('saved').textContent === 'Saved: B is better'")
    assert reader.page.is_visible("#pair")
    reader.answer("7")
    assert len({row["item"] for row in reader.judgements()}) == 7


def _an_hour_passes(server: Server) -> None:
    """For the server's leases, which end after a quarter of it."""
    with closing(sqlite3.connect(server.store)) as connection, connection:
        connection.execute("UPDATE assignment SET leased_at = leased_at - 3600, expires_at = expires_at - 3600")


def test_a_lost_reply_does_not_double_the_answer(reader: Reader) -> None:
    lost: list[Any] = []

    def lose_the_first(route: Any) -> None:
        if lost:
            route.continue_()
        else:
            lost.append(route.fetch())  # the server has stored it
            route.abort()

    reader.page.route(requests_of("submit"), lose_the_first)
    reader.answer("5")
    assert [(row["shown"], row["revision"]) for row in reader.judgements()] == [(1, 1)]
    assert len(lost) == 1


def test_a_refused_answer_says_so_and_does_not_block_the_next(reader: Reader) -> None:
    def refuse(route: Any) -> None:
        route.fulfill(status=409, json={"detail": "for a test"})

    reader.page.route(requests_of("submit"), refuse, times=1)
    reader.answer("5")
    reader.see("#notice.warning")
    assert "was not accepted: for a test" in reader.page.text_content("#notice")
    reader.answer("6")
    assert [row["shown"] for row in reader.judgements()] == [2]


@pytest.mark.parametrize("ahead", [True, False], ids=["with a card ahead", "without"])
def test_eight_clicks_in_one_tick_are_one_judgement(reader: Reader, ahead: bool) -> None:
    if ahead:
        reader.fetched_ahead()
    else:
        reader.page.route(requests_of("ahead"), lambda route: route.abort())
        reader.page.reload()
        reader.ready()
    before = reader.prompt()
    reader.page.evaluate(
        "() => { for (let i = 0; i < 8; i++) document.querySelector('[data-strength=\"1\"]').click() }"
    )
    reader.page.wait_for_function(
        "before => !document.getElementById('prompt').textContent.includes(before)", arg=before
    )
    reader.ready()
    assert [row["shown"] for row in reader.judgements()] == [1]


def test_a_double_click_is_one_judgement(reader: Reader) -> None:
    reader.fetched_ahead()
    reader.page.dblclick("[data-strength='1']", delay=120)
    reader.page.wait_for_timeout(600)  # a second answer would follow now
    assert [row["shown"] for row in reader.judgements()] == [1]


def test_a_held_key_is_one_judgement(reader: Reader) -> None:
    reader.fetched_ahead()
    for _ in range(8):
        reader.page.keyboard.down("2")
    reader.page.keyboard.up("2")
    reader.page.wait_for_timeout(600)  # as above
    assert [row["shown"] for row in reader.judgements()] == [-2]


def test_two_tabs_of_one_person(reader: Reader) -> None:
    other = Reader(reader.page.context.new_page(), reader.server, reader.name)
    other.page.goto(reader.server.url)
    other.ready()
    first = reader.prompt()
    assert other.prompt() == first
    reader.answer("1")
    other.page.wait_for_function(
        "before => !document.getElementById('prompt').textContent.includes(before)", arg=first
    )  # it is told, and goes on
    other.ready()
    other.answer("7")
    rows = reader.judgements()
    assert [(row["shown"], row["revision"]) for row in rows] == [(-3, 1), (3, 1)]
    assert len({row["item"] for row in rows}) == 2


def test_two_people_one_item(server: Server, opened: Callable[..., Reader]) -> None:
    readers = [opened(server), opened(server)]
    for _ in range(3):
        assert readers[0].prompt() != readers[1].prompt()
        for reader in readers:
            reader.answer("4")
    rows = [row for reader in readers for row in reader.judgements()]
    assert len({row["item"] for row in rows}) == len(rows) == 6
