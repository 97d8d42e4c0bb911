"""WCAG 2.1 AA, as axe-core sees it. `AXE_PATH` is its axe.min.js; without it only the plain checks run."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.annotate.browser.conftest import Reader, Server
from tests.conftest import skip_or_fail

pytestmark = pytest.mark.slow
AXE = os.environ.get("AXE_PATH", "")
STANDARD = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]

LOOKS: dict[str, dict[str, Any]] = {
    "light": {},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True},
}


def violations(page: Any, within: str | None = None) -> list[str]:
    """What axe finds on a page, or in an element."""
    if not Path(AXE).is_file():
        skip_or_fail("AXE_PATH names no axe.min.js")
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(Path(AXE).read_text(encoding="utf-8"))
    run = "([where, standard]) => axe.run(where ?? document, { runOnly: standard, resultTypes: ['violations'] })"
    found = page.evaluate(run, [within, STANDARD])
    assert len(found["passes"]) > 10
    return [f"{v['id']}: {[node['html'][:120] for node in v['nodes']]}" for v in found["violations"]]


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing(look: str, server: Server, opened: Callable[..., Reader]) -> None:
    reader = opened(server, **LOOKS[look])
    assert violations(reader.page) == []
    reader.press("r", "c", "Escape", "c", "Escape", "e", "6", "g")  # exact text, comment, editor, guidelines
    assert violations(reader.page) == []
    for key in ("?", "s", "f", "h"):
        reader.press(key)
        reader.see("dialog[open]")
        reader.page.wait_for_timeout(150)
        assert violations(reader.page) == [], key
        reader.press("Escape")


@pytest.mark.parametrize("look", ["light", "dark"])
def test_axe_finds_nothing_at_the_login(look: str, server: Server, window: Callable[..., Any]) -> None:
    page = window(f"{server.url}/login", **LOOKS[look])
    page.goto(f"{server.url}/login")
    assert violations(page) == []


def test_axe_would_see_a_violation(server: Server, window: Callable[..., Any]) -> None:
    page = window(f"{server.url}/login")
    page.goto(f"{server.url}/login")
    page.evaluate("() => document.querySelector('main').append(document.createElement('button'))")
    assert any(violation.startswith("button-name") for violation in violations(page))


def test_roles_names_and_live_regions(reader: Reader) -> None:
    page = reader.page
    assert page.evaluate("() => document.documentElement.lang") == "en"
    assert page.get_by_role("group", name="Which answer is better?").get_by_role("button").count() == 7
    assert page.get_by_role("button", name="B is slightly better").get_attribute("aria-keyshortcuts") == "5"
    assert page.get_by_role("region", name="Answer A").count() == 1
    assert page.get_by_role("progressbar", name="Your progress").count() == 1
    reader.answer("3")
    reader.saved()
    page.wait_for_function("() => document.getElementById('saved').textContent.startsWith('Saved')")
    assert page.locator("[role=status]#saved").text_content() == "Saved: A is slightly better"
    assert page.evaluate("() => document.activeElement.id") == "prompt"  # a screen reader reads on from the new prompt


def test_everything_is_reached_by_tabs(reader: Reader) -> None:
    reached = set()
    for _ in range(40):
        reader.press("Tab")
        reached.add(reader.page.evaluate("() => document.activeElement.dataset?.action || document.activeElement.id"))
    assert {*"1234567", "bad", "skip", "flag", "comment", "edit", "undo", "history", "raw", "dark", "help"} <= reached
