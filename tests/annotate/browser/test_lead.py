"""The lead's pages in a real browser: nothing runs, nothing overflows, axe finds nothing, a decision is kept."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from annotate.config import QueueSection
from annotate.queue.rules import Card, Queue, Submission
from annotate.store.database import Store
from tests.annotate.browser.conftest import LEAD, PASSWORD, Reader, Server
from tests.annotate.browser.test_accessibility import LOOKS, violations
from tests.annotate.conftest import make_item

pytestmark = pytest.mark.slow
PAGES = ("/lead", "/lead/review", "/lead/people", "/lead/people/p0?state=removed")
HOSTILE = "<script>document.title='run'</script><img src=//x onerror=\"document.title='run'\">{{7*7}}${7*7}"


@pytest.fixture(scope="module")
def server(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two people differ on hostile texts."""
    items = [make_item(f"i{n}", f"{HOSTILE} {n}", "x" * 3000) for n in range(6)]
    server = Server(tmp_path_factory.mktemp("lead"), items, "queue.overlap=2", "queue.overlap_share=1")
    server.start()
    store = Store.open(server.store, durable=False)
    queue = Queue(store, QueueSection(lease_seconds=60))
    for name, own in (("p0", 3), ("p1", -2)):
        with store.read() as transaction:
            who = transaction.annotator(name)
        assert who is not None
        while isinstance(card := queue.next(who), Card):
            shown = own if card.left.text.startswith("<") else -own
            key = f"{name}-{card.item_id}-key"
            queue.submit(who, Submission(card.item, "compared", key, strength=shown, comment=HOSTILE))
    store.close()
    yield server
    server.kill()


@pytest.fixture
def lead(server: Server, opened: Callable[..., Reader], request: pytest.FixtureRequest) -> Any:
    """The lead's browser, logged in."""
    return opened(server, LEAD, path="/lead", **LOOKS[getattr(request, "param", "light")]).page


@pytest.mark.parametrize("lead", LOOKS, indirect=True)
def test_pages_fit_run_nothing_and_axe_finds_nothing(lead: Any, server: Server) -> None:
    for path in PAGES:
        assert lead.goto(server.url + path).status == 200
        assert "run" not in lead.title()
        assert lead.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        assert lead.locator("body script, body img").count() == 0
        assert violations(lead) == [], path


def test_texts_are_shown_as_they_are(lead: Any, server: Server) -> None:
    lead.goto(f"{server.url}/lead/review")
    shown = lead.locator(".answers .text").first.evaluate("element => element.textContent")
    assert shown == f"{HOSTILE} 0"


def test_a_decision_by_keyboard_is_kept(lead: Any, server: Server) -> None:
    lead.goto(f"{server.url}/lead/review")
    assert lead.locator(".item").count() == 6
    first = lead.locator(".item").first
    first.locator("input[value='2']").focus()
    lead.keyboard.press("Space")
    first.locator("input[name='comment']").focus()
    lead.keyboard.type("clear")
    lead.keyboard.press("Enter")
    lead.wait_for_url("**/lead/review?page=1&show=open")
    assert lead.locator(".item").count() == 5
    store = Store.open(server.store, durable=False)
    with store.read() as transaction:
        (word,) = transaction.adjudications().values()
    store.close()
    assert (word.choice, word.strength, word.comment, word.adjudicator) == ("compared", 2, "clear", LEAD)


def test_preferences_are_downloaded(lead: Any) -> None:
    with lead.expect_download() as download:
        lead.get_by_role("button", name="Preferences (JSONL)").click()
    assert download.value.suggested_filename == "preferences.jsonl"


def test_an_account_made_here_labels_at_once(lead: Any, server: Server, opened: Callable[..., Reader]) -> None:
    lead.get_by_role("link", name="People").click()
    lead.get_by_label("Name").fill("newcomer")
    lead.get_by_label("Password", exact=True).fill(PASSWORD)
    lead.keyboard.press("Enter")
    lead.wait_for_selector("text=newcomer")
    reader = opened(server, "newcomer")
    assert reader.page.is_visible("#nothing")  # both judgements of each item are given
