"""Labelling by hand: everything by keyboard, undo, reload, earlier answers, drafts, keys of one's own."""

import re
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from annotate.queue.progress import put_round
from annotate.store.database import Store
from tests.annotate.browser.conftest import Reader, Server, requests_of

pytestmark = pytest.mark.slow


def test_twenty_pairs_by_keyboard_alone(reader: Reader) -> None:
    reader.log_in_by_keyboard()
    keys = [*"1234567", "t", "x", "5", "2", "Numpad6", "4", "7", "1"]
    for key in keys:
        reader.answer(key)
    reader.answer("s", "Enter")
    reader.answer("s", "2")
    reader.answer("f", "2", "6")
    reader.answer("f", "3", "f", "4", "3")
    reader.press("c")
    reader.page.keyboard.type("12 is wrong")  # digits in a field answer nothing
    reader.answer("Escape", "1")
    rows = reader.judgements()
    assert len(rows) == 20
    assert [row["shown"] for row in rows[:8]] == [-3, -2, -1, 0, 1, 2, 3, 0]
    assert [row["choice"] for row in rows[8:10]] == ["both_bad", "compared"]
    assert [row["shown"] for row in rows[10:15]] == [-2, 2, 0, 3, -3]
    assert [row["reason"] for row in rows[15:17]] == [None, "The prompt is unclear"]
    assert [row["flag"] for row in rows[17:]] == ["unsafe", None, None]
    assert rows[19]["comment"] == "12 is wrong"
    assert len({row["item"] for row in rows}) == 20
    assert all(re.fullmatch(r"1\.0 \([0-9a-f]{8}\)", row["guidelines_version"]) for row in rows)
    assert all(0 < row["seconds"] < 60 for row in rows)
    assert "18 labelled" in reader.page.text_content("#count")
    assert re.search(r"\d+ an hour", reader.page.text_content("#pace"))


def test_undo_and_reload_in_the_middle(reader: Reader) -> None:
    first = reader.prompt()
    reader.answer("2")
    second = reader.prompt()
    reader.answer("u")
    assert reader.prompt() == first
    assert "before" in reader.page.get_attribute("#scale [data-strength='-2']", "class")
    reader.press("f", "1", "c")
    reader.page.keyboard.type("a draft")
    reader.page.reload()
    reader.ready()
    assert reader.prompt() == first
    assert reader.page.input_value("#comment") == "a draft"
    reader.answer("6")
    assert reader.prompt() == second
    assert reader.page.is_hidden("#comment")  # the draft belonged to the other card
    rows = reader.judgements()
    assert [row["choice"] for row in rows] == ["compared", "withdrawn", "compared"]
    assert (rows[2]["shown"], rows[2]["flag"], rows[2]["comment"], rows[2]["revision"]) == (2, "pii", "a draft", 3)


def test_an_earlier_answer_is_changed(reader: Reader) -> None:
    prompts = []
    for key in "123":
        prompts.append(reader.prompt())
        reader.answer(key)
    current = reader.prompt()
    reader.saved()
    reader.press("h")
    reader.see("#history-list button")
    lines = reader.page.locator("#history-list button").all_text_contents()
    assert len(lines) == 3
    assert lines[1].startswith(prompts[1])
    assert "A is better" in lines[1]
    reader.page.locator("#history-list button").nth(1).focus()
    reader.answer("Enter")
    assert reader.prompt() == prompts[1]
    reader.answer("7")
    assert reader.prompt() == current  # back where we were
    rows = reader.judgements()
    assert (rows[3]["item"], rows[3]["revision"], rows[3]["shown"]) == (rows[1]["item"], 2, 3)
    reader.press("h")
    reader.see("#history-list button")
    reader.page.locator("#history-list button").first.focus()
    reader.answer("Enter")
    reader.answer("Escape")  # looked at, and left as it was
    assert reader.prompt() == current
    assert len(reader.judgements()) == 4


def test_the_history_shows_no_lines_of_the_last_time_while_it_loads(reader: Reader) -> None:
    reader.answer("1")
    reader.saved()
    reader.press("h")
    reader.see("#history-list button")
    reader.press("Escape")
    held: list[Any] = []
    reader.page.route(requests_of("mine"), lambda route: held.append(route))
    reader.press("h")
    reader.see("#history[open]")
    assert reader.page.locator("#history-list li").count() == 0  # a focused line would lose the focus to the new ones
    assert reader.page.text_content("#history-intro") == "Loading …"
    held[0].continue_()
    reader.see("#history-list button")


def test_the_better_answer_is_edited(reader: Reader) -> None:
    reader.press("e")
    assert reader.page.is_hidden("#edited")  # it is not known which one is better
    better = reader.page.text_content("#answers .answer:nth-child(2) .text")
    reader.press("6")
    assert reader.page.input_value("#edited") == better
    assert reader.judgements() == []  # with an edit, Enter saves
    reader.page.focus("#edited")
    reader.press("Control+End")
    reader.page.keyboard.type(" and more")
    reader.answer("Control+Enter")
    (row,) = reader.judgements()
    assert (row["shown"], row["edited_text"]) == (2, f"{better} and more")
    assert row["edited_response"] == (0 if row["swapped"] else 1)


def test_asking_before_saving(reader: Reader) -> None:
    reader.press("?")
    reader.page.check("#ask-first")
    reader.press("Escape", "Enter")
    assert reader.page.text_content("#saved") == "First choose an answer (1-7)"
    reader.press("2", "6")
    reader.answer("Enter")
    assert [row["shown"] for row in reader.judgements()] == [2]


def test_keys_are_changed_kept_and_switched_off(reader: Reader) -> None:
    reader.press("?")
    reader.page.click("#help [data-key=bad]")
    reader.press("s")
    assert "is already used for: skip" in reader.page.text_content("#help-problem")
    reader.page.click("#help [data-key=bad]")
    reader.press("n", "Escape")
    reader.page.reload()
    reader.ready()
    assert reader.page.text_content("#choices [data-action=bad] kbd") == "N"
    reader.press("x")
    reader.answer("n")
    assert [row["choice"] for row in reader.judgements()] == ["both_bad"]
    reader.press("?")
    reader.page.uncheck("#keys-on")
    reader.press("Escape", "3", "n", "Control+4")
    reader.page.wait_for_timeout(300)
    assert len(reader.judgements()) == 1
    reader.press("?")  # help alone stays
    assert reader.page.is_visible("#help")


def test_behind_a_dialog_and_with_modifiers_keys_are_silent(reader: Reader) -> None:
    reader.press("Control+4", "?", "3", "Escape", "s", "Escape", "f", "Escape", "h", "x", "Escape")
    reader.page.wait_for_timeout(300)
    assert [dict(row) for row in reader.judgements()] == []


def test_views(reader: Reader) -> None:
    formatted = sorted(reader.page.locator("#answers .text").all_text_contents())
    assert reader.page.locator("#answers strong:not(.rank)").count() == 1
    reader.press("r")  # rendered
    reader.see("#annotate[data-view=rendered]")
    assert reader.page.locator("#answers strong:not(.rank)").count() == 1
    reader.press("r")
    reader.see("#annotate[data-view=exact]")
    assert sorted(reader.page.locator("#answers .text.exact").all_text_contents()) == formatted
    assert reader.page.locator("#answers .text strong").count() == 0
    reader.press("r", "d")
    assert reader.page.evaluate("() => document.body.classList.contains('dark')")
    visible = reader.page.is_visible("#guidelines")
    reader.press("g")
    assert reader.page.is_visible("#guidelines") != visible


def test_the_next_card_does_not_wait_for_the_server(reader: Reader) -> None:
    reader.answer("1")
    reader.saved()
    reader.fetched_ahead()
    held: list[Any] = []
    reader.page.route(requests_of("submit"), lambda route: held.append(route))
    reader.answer("2")
    assert "1 answer not saved yet" in reader.page.text_content("#unsaved")
    for route in held:
        route.continue_()
    assert [row["shown"] for row in reader.judgements()] == [-3, -2]


def test_phone_width(server: Server, opened: Callable[..., Reader]) -> None:
    reader = opened(server, viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    assert reader.page.evaluate("() => document.documentElement.scrollWidth") <= 390
    first, second = (box.bounding_box() for box in reader.page.locator("#answers .answer").all())
    assert second["y"] >= first["y"] + first["height"]  # stacked
    for button in reader.page.locator("#choices button:visible").all():
        box = button.bounding_box()
        assert box["width"] >= 40
        assert box["height"] >= 40
    before = reader.prompt()
    reader.page.tap("[data-strength='2']")
    reader.page.wait_for_function(
        "before => !document.getElementById('prompt').textContent.includes(before)", arg=before
    )
    assert [row["shown"] for row in reader.judgements()] == [2]


def test_the_round_of_a_loop_is_shown_and_counts_down(reader: Reader, server: Server) -> None:
    store = Store.open(server.store)
    with store.write() as transaction:
        put_round(transaction, 0, rounds=5, labels=transaction.labelled_of_round(0) + 2)
    try:
        reader.page.reload()
        reader.ready()
        assert reader.page.text_content("#round") == "· Round 0 of 5, 2 labels to go"
        reader.answer("2")
        assert "1 labels to go" in reader.page.text_content("#round")
        reader.answer("3")
        assert "Further labels count for the next round" in reader.page.text_content("#round")
        reader.answer("5")
        assert len(reader.judgements()) == 3, "people can go on"
    finally:
        with sqlite3.connect(server.store) as connection:
            connection.execute("DELETE FROM meta WHERE key = 'round'")
        store.close()
