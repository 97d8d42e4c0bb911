"""The lead's pages in a real browser: nothing runs, nothing overflows, axe finds nothing, a decision is kept."""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from annotate.intake.items import load_items
from annotate.queue.rules import Card, Queue, Submission
from annotate.store.database import Store
from tests.annotate.conftest import make_item

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PAGES = ("/lead", "/lead/review", "/lead/people/ann?state=removed")
HOSTILE = "<script>document.title='run'</script><img src=//x onerror=\"document.title='run'\">{{7*7}}${7*7}"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]


@pytest.fixture
def served(store: Store) -> Iterator[str]:
    """The address of a server over a store in which two people differ on hostile texts."""
    import uvicorn

    from annotate.web.app import create_app, listen

    load_items(store, [make_item(f"i{n}", f"{HOSTILE} {n}", "x" * 3000) for n in range(6)], overlap=2, overlap_share=1)
    queue = Queue(store, lease_seconds=60)
    for name, own in (("ann", 3), ("bea", -2)):
        with store.write() as transaction:
            transaction.add_annotator(name, "annotator", 0.0)
            who = transaction.annotator(name)
        assert who is not None
        while isinstance(card := queue.next(who), Card):
            shown = own if card.left.text.startswith("<") else -own
            key = f"{name}-{card.item_id}-key"
            queue.submit(who, Submission(card.item, "compared", key, strength=shown, comment=HOSTILE))
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    app = create_app(store, queue, title="Lead", login=False, port=port)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()
    listener.close()


@pytest.fixture
def open_page(served: str) -> Iterator[Callable[..., Any]]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)

        def open_(path: str, **settings: Any) -> Any:
            page = browser.new_context(**settings).new_page()
            page.goto(served + path)
            return page

        yield open_
        browser.close()


@pytest.mark.parametrize("settings", [{}, {"viewport": {"width": 360, "height": 740}}, {"color_scheme": "dark"}])
def test_pages_fit_run_nothing_and_are_accessible(open_page: Callable[..., Any], settings: dict[str, Any]) -> None:
    axe = Path(os.environ.get("AXE_PATH", "no axe-core here"))
    for path in PAGES:
        page = open_page(path, bypass_csp=axe.is_file(), **settings)
        assert page.title().endswith("· Lead")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        assert page.locator("body script, body img").count() == 0
        if axe.is_file():
            page.add_script_tag(path=str(axe))
            found = page.evaluate("axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']})")
            assert [violation["id"] for violation in found["violations"]] == [], path


def test_texts_are_shown_as_they_are(open_page: Callable[..., Any]) -> None:
    page = open_page("/lead/review")
    shown = page.locator(".answers .source").first.evaluate("element => element.textContent")
    assert shown == f"{HOSTILE} 0"


def test_a_decision_by_keyboard_is_kept(open_page: Callable[..., Any], store: Store) -> None:
    page = open_page("/lead/review")
    assert page.locator(".item").count() == 6
    first = page.locator(".item").first
    first.locator("input[value='2']").focus()
    page.keyboard.press("Space")
    first.locator("input[name='comment']").focus()
    page.keyboard.type("clear")
    page.keyboard.press("Enter")
    page.wait_for_url("**/lead/review?page=1&show=open")
    assert page.locator(".item").count() == 5
    with store.read() as transaction:
        (word,) = transaction.adjudications().values()
    assert (word.choice, word.strength, word.comment, word.adjudicator) == ("compared", 2, "clear", "local")
