"""The review in a real browser: decided by keyboard, blind, without a reload, and with the place kept."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from annotate.config import QueueSection
from annotate.queue.rules import Card, Queue, Submission
from annotate.store.database import Store
from tests.annotate.browser.conftest import LEAD, Reader, Server, see
from tests.annotate.browser.test_accessibility import LOOKS, violations
from tests.annotate.conftest import make_item
from workbench.data.records import Response

pytestmark = pytest.mark.slow
LONG = "A paragraph of an answer that goes on and on. " * 400
HOSTILE = "<img src=//x onerror=\"document.title='run'\">{{7*7}}${7*7}"
RANKED = tuple(Response(id=str(n), text=f"ranked {n}") for n in range(3))


@pytest.fixture(scope="module")
def server(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """On every item, p0 and p1 prefer different answers, and p1 comments."""
    items = [make_item(f"i{n}", f"one {n} {HOSTILE} \u202eRLO\u202c", f"{n} {LONG}") for n in range(12)]
    items.append(make_item("ranked", responses=RANKED))
    options = ("queue.overlap=2", "queue.overlap_share=1", "queue.compare=ranking")
    server = Server(tmp_path_factory.mktemp("review"), items, *options)
    server.start()
    store = Store.open(server.store, durable=False)
    queue = Queue(store, QueueSection(lease_seconds=60, compare="ranking"))
    for name, own in (("p0", 3), ("p1", -2)):
        with store.read() as transaction:
            who = transaction.annotator(name)
        assert who is not None
        while isinstance(card := queue.next(who), Card):
            key = f"{name}-{card.item_id}-key"
            if len(card.answers) == 2:
                shown = own if card.left.text.startswith("one") else -own
                queue.submit(who, Submission(card.item, "compared", key, strength=shown, comment=f"{name}: {HOSTILE}"))
            else:
                by_number = [int(answer.text[-1]) for answer in card.answers]
                ranks = tuple(number + 1 if own > 0 else 3 - number for number in by_number)
                queue.submit(who, Submission(card.item, "ranked", key, ranking=ranks))
    store.close()
    yield server
    server.kill()


def _settled(page: Any) -> None:
    see(page, "#annotate[aria-busy=false]")


@pytest.fixture
def lead(server: Server, opened: Callable[..., Reader]) -> Iterator[Reader]:
    """The lead at the review; nothing may leave it, and no script may fail."""
    reader = opened(server, LEAD, path="/lead/items")
    _settled(reader.page)
    yield reader
    assert reader.foreign == []
    assert reader.problems == []


def _ruling(server: Server, item_id: str) -> Any:
    store = Store.open(server.store, durable=False)
    with store.read() as transaction:
        key = next(item.id for item in transaction.items() if item.item_id == item_id)
        found = transaction.adjudications().get(key)
    store.close()
    return found


def _decide(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)
    see(page, "#annotate.decided[aria-busy=false]")


def test_a_decision_a_look_at_the_votes_and_on_to_the_next_one(lead: Reader, server: Server) -> None:
    page = lead.page
    page.evaluate("() => (window.same = true)")
    first = page.url
    assert page.locator("#judgements li").count() == 0
    assert page.text_content("#verdict") == "2 judgements, shown after the decision"
    assert page.get_attribute("#answers .unseen", "data-label") == "RLO"  # the annotators' renderer
    page.keyboard.press("c")
    page.keyboard.type("by rule 3")
    page.keyboard.press("Escape")
    _decide(page, "6")
    said = page.locator("#judgements li").all_text_contents()
    assert [(line[:2], HOSTILE in line) for line in said] == [("p0", True), ("p1", True)]
    assert "run" not in page.title()
    ruling = _ruling(server, "i0")
    assert (ruling.choice, ruling.strength, ruling.comment, ruling.adjudicator) == ("compared", 2, "by rule 3", LEAD)
    assert page.locator("#rows-found li.done").count() == 1
    with page.expect_response("**/ruling"):
        page.fill("#comment", "by rule 4")
        page.keyboard.press("Escape")
    _settled(page)
    assert (_ruling(server, "i0").strength, _ruling(server, "i0").comment) == (2, "by rule 4")
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: url != first)
    _settled(page)
    assert page.text_content("#answers .answer .text").startswith("one 1")
    assert page.locator("#judgements li").count() == 0
    assert page.input_value("#comment") == ""
    assert page.evaluate("window.same")  # never reloaded


def test_every_verdict_has_its_key(lead: Reader, server: Server) -> None:
    page = lead.page
    page.goto(f"{server.url}/lead/items?search=one 2")
    _settled(page)
    for key, choice, strength in (
        ("x", "both_bad", None),
        ("s", "left_out", None),
        ("1", "compared", -3),
        ("t", "compared", 0),
    ):
        with page.expect_response("**/ruling"):
            page.keyboard.press(key)
        _settled(page)
        ruling = _ruling(server, "i2")
        assert (ruling.choice, ruling.strength) == (choice, strength), key
    with page.expect_response("**/ruling"):
        page.keyboard.press("u")
    _settled(page)
    assert _ruling(server, "i2").choice == "withdrawn"
    assert page.locator("#judgements li").count() == 0


def test_a_ranking_is_decided_with_enter(lead: Reader, server: Server) -> None:
    page = lead.page
    page.goto(f"{server.url}/lead/items?search=ranked")
    _settled(page)
    page.keyboard.press("Enter")
    assert page.text_content("#saved") == "First rank every answer"
    _decide(page, "3", "1", "2", "Enter")
    assert _ruling(server, "ranked").ranking == "[2, 3, 1]"


def test_the_place_is_kept_when_going_back(lead: Reader) -> None:
    page = lead.page
    page.locator("#rows-found a").nth(4).click()
    page.wait_for_function(
        "() => document.querySelectorAll('#rows-found a')[4].getAttribute('aria-current') === 'true'"
    )
    _settled(page)
    fourth = page.url
    page.evaluate("() => window.scrollTo(0, 1500)")
    page.keyboard.press("j")
    page.wait_for_url(lambda url: url != fourth)
    _settled(page)
    assert page.evaluate("window.scrollY") == 0
    page.go_back()
    page.wait_for_url(fourth)
    page.wait_for_function("() => window.scrollY === 1500")
    _settled(page)
    assert page.locator("#rows-found a").nth(4).get_attribute("aria-current") == "true"
    page.get_by_role("link", name="Overview").click()  # another page altogether
    page.wait_for_selector("text=Agreement")
    page.go_back()
    page.wait_for_function("() => window.scrollY === 1500")
    assert page.url == fourth


def test_filters_search_and_links(lead: Reader, server: Server, opened: Callable[..., Reader]) -> None:
    page = lead.page
    page.keyboard.press("/")
    page.keyboard.type("one 7")
    page.wait_for_function("() => document.getElementById('found').textContent === '1 item'")
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.wait_for_url("**/lead/items/*?search=one+7")
    _settled(page)
    assert page.text_content("#answers .answer .text").startswith("one 7")
    link = page.url
    page.select_option("select[name=person]", "p1")
    page.wait_for_url("**person=p1*")
    page.reload()
    _settled(page)
    assert page.input_value("select[name=person]") == "p1"
    other = opened(server, LEAD, path=link.removeprefix(server.url))
    _settled(other.page)
    assert other.page.text_content("#answers .answer .text").startswith("one 7")


def test_without_scripts_there_are_forms(server: Server, browser: Any, opened: Callable[..., Reader]) -> None:
    reader = opened(server, LEAD, path="/lead")
    context = browser.new_context(java_script_enabled=False)
    context.add_cookies(reader.page.context.cookies())
    page = context.new_page()
    page.goto(f"{server.url}/lead/items")
    page.wait_for_url("**/lead/review")
    form = page.locator("form.decide").first
    assert form.get_by_role("button", name="Decide").is_visible()
    votes = page.locator("details.said").first
    assert not votes.locator("ul").is_visible()
    context.close()


def test_the_annotator_reads_the_decision_and_the_reply(
    lead: Reader, server: Server, opened: Callable[..., Reader]
) -> None:
    page = lead.page
    page.goto(f"{server.url}/lead/items?search=one 9")
    _settled(page)
    _decide(page, "7")  # p1 preferred the first answer
    page.get_by_role("button", name="Reply to p1").click()
    page.keyboard.type("see rule 3")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('#judgements .reply')?.textContent === 'lead: see rule 3'")
    reader = opened(server, "p1")
    other = reader.page
    see(other, "#history-open.news")
    other.keyboard.press("h")
    other.locator("#history-news").click()
    other.wait_for_selector("#history-list .ruling:has-text('lead decided otherwise')")
    assert other.locator("#history-list .reply", has_text="lead: see rule 3").count() == 1
    assert "decided otherwise" in other.text_content("#history-news")
    other.keyboard.press("Escape")
    assert other.locator("#history-open.news").count() == 0
    assert reader.problems == []


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing_and_nothing_overflows(look: str, server: Server, opened: Callable[..., Reader]) -> None:
    page = opened(server, LEAD, path="/lead/items?search=one 11", **LOOKS[look]).page
    _settled(page)
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    _decide(page, "2")
    page.get_by_role("button", name="Reply to p0").click()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.keyboard.press("Escape")
    with page.expect_response("**/ruling"):
        page.get_by_role("button", name="Withdraw").click()
