"""Training before real work, and the history: search, filters, stars, more than one page."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from annotate.config import QueueSection
from annotate.queue.rules import Card, Queue, Submission
from annotate.store.database import Store
from tests.annotate.browser.conftest import Reader, Server, see
from tests.annotate.browser.test_accessibility import LOOKS, violations
from tests.annotate.conftest import make_item

pytestmark = pytest.mark.slow
WHY = "The second answer <b>invents</b> a date."
JUDGED = 130


@pytest.fixture(scope="module")
def server(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two training pairs and many others."""
    items = [make_item(f"t{n}", kind="training", known_strength=-2, why=WHY) for n in range(2)]
    items += [make_item(f"i{n}", f"one {n}", f"two {n}") for n in range(JUDGED + 20)]
    server = Server(tmp_path_factory.mktemp("history"), items, "queue.overlap=9", "queue.overlap_share=1")
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def experienced(server: Server) -> str:
    """Somebody who has judged many pairs and skipped a few."""
    return _experienced(server, JUDGED)


def _experienced(server: Server, judged: int) -> str:
    store, name = Store.open(server.store, durable=False), server.somebody()
    queue = Queue(store, QueueSection(lease_seconds=60))
    with store.read() as transaction:
        who = transaction.annotator(name)
    assert who is not None
    for number in range(judged):
        card = queue.next(who)
        assert isinstance(card, Card)
        key = f"{name}-{card.item_id}-key"
        if number % 40 == 39:
            queue.submit(who, Submission(card.item, "skipped", key, reason="hard"))
        else:
            comment = "like a Roman" if number == 100 else None
            queue.submit(who, Submission(card.item, "compared", key, strength=1, comment=comment))
    store.close()
    return name


def _lines(page: Any, count: int) -> None:
    page.wait_for_function("count => document.querySelectorAll('#history-list li').length === count", arg=count)


def test_training_shows_the_right_answer_and_why_and_then_work_begins(
    server: Server, opened: Callable[..., Reader]
) -> None:
    reader = opened(server)
    page = reader.page
    reader.fetched_ahead()
    for number in (1, 2):
        assert page.text_content("#training").startswith(f"Training {number} of 2")
        left_is_right = page.text_content("#answers .answer .text").startswith("first")
        right = "A is better" if left_is_right else "B is better"
        reader.press("6" if left_is_right == (number == 1) else "2")  # wrong first, then right
        see(page, "#lesson:not([hidden])")
        assert page.text_content("#lesson-right") == f"Right answer: {right}"
        assert page.text_content("#lesson-why") == WHY
        assert page.is_visible("#lesson-yours")
        assert page.text_content("#lesson-yours").startswith("Yours:" if number == 1 else "You agree")
        assert not page.is_visible("#scale")
        reader.press("1", "x")  # no answer counts while the lesson is open
        reader.press("Enter")
        page.wait_for_selector("#lesson", state="hidden")
        reader.ready()
    assert not page.is_visible("#training")
    assert reader.prompt().startswith("Question i")
    reader.answer("3")
    assert [row["choice"] for row in reader.judgements()] == ["compared"] * 3
    page.wait_for_function("() => document.getElementById('count').textContent.startsWith('1 labelled')")
    assert reader.problems == []


def test_search_filters_and_pages(server: Server, opened: Callable[..., Reader], experienced: str) -> None:
    reader = opened(server, experienced)
    page = reader.page
    reader.press("h")
    _lines(page, 50)
    for count in (100, JUDGED):
        page.get_by_role("button", name="Load more").click()
        _lines(page, count)
    assert not page.is_visible("#history-more")
    prompts = page.locator("#history-list button.earlier span").all_text_contents()
    assert len(set(prompts)) == JUDGED
    page.select_option("#history-show", "skipped")
    _lines(page, 3)
    page.select_option("#history-show", "commented")
    _lines(page, 1)
    assert "You: like a Roman" in page.text_content("#history-list li")
    page.select_option("#history-show", "")
    page.fill("#history-search", "two 77")
    _lines(page, 1)
    page.fill("#history-search", "nothing has this")
    page.wait_for_function("() => document.getElementById('history-intro').textContent === 'No answer matches.'")
    assert reader.problems == []


def test_a_star_leads_back(server: Server, opened: Callable[..., Reader]) -> None:
    reader = opened(server, _experienced(server, 55))
    page = reader.page
    prompt = reader.prompt()
    reader.press("b")
    see(page, "#choices [data-action=star].on")
    reader.answer("2")
    assert page.locator("#choices [data-action=star].on").count() == 0
    reader.saved()
    reader.press("h")
    _lines(page, 50)
    page.locator("#history-list .star").nth(4).click()
    see(page, "#history-list li:nth-child(5) .star:checked")
    page.select_option("#history-show", "starred")
    _lines(page, 2)
    page.locator("#history-list button.earlier").first.click()
    see(page, "#choices [data-action=star].on")
    reader.ready()
    assert reader.prompt() == prompt
    page.context.set_offline(True)
    reader.press("b")
    page.wait_for_function("() => document.getElementById('saved').textContent.startsWith('Stars work again')")
    assert reader.problems == []


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing(look: str, server: Server, opened: Callable[..., Reader], experienced: str) -> None:
    page = opened(server, experienced, **LOOKS[look]).page
    page.get_by_role("button", name="History").click()
    _lines(page, 50)
    assert violations(page) == []
    newcomer = opened(server, **LOOKS[look]).page
    assert violations(newcomer) == []
    newcomer.locator("#scale button").first.click()
    see(newcomer, "#lesson:not([hidden])")
    assert violations(newcomer) == []
