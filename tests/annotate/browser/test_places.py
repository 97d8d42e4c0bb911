"""The rendering corpus in the review and in the history, as `test_rendering` sees it on the card."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.annotate.browser.conftest import LEAD, Reader, Server, judge, see
from tests.annotate.browser.corpus import CORPUS, SEEN, as_stored, pairs

pytestmark = pytest.mark.slow
STARTS = range(0, len(CORPUS) - 1, 2)


@pytest.fixture(scope="module")
def judged(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The corpus, judged by p0, whose prompts are texts of the corpus, too."""
    server = Server(tmp_path_factory.mktemp("judged"), pairs(asked=True), "queue.overlap=1")
    server.start()
    judge(server, "p0", *[1] * len(STARTS))
    yield server
    server.kill()


def _nothing_ran(reader: Reader) -> None:
    kinds = ":is(.text, .snippet) :is(img, script, iframe, form, a, svg)"
    assert reader.page.evaluate("kinds => document.querySelectorAll(kinds).length", kinds) == 0
    assert reader.page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    assert reader.foreign == []
    assert reader.problems == []


def test_the_corpus_in_the_review(judged: Server, opened: Callable[..., Reader]) -> None:
    reader = opened(judged, LEAD, path="/lead/items?show=all")
    page = reader.page
    page.wait_for_function("count => document.querySelectorAll('#rows-found li').length === count", arg=len(STARTS))
    rows = page.evaluate(SEEN, "#rows-found .snippet")
    assert [row["text"] for row in rows] == [CORPUS[start][:160] for start in STARTS]
    see(page, "#answers .text")
    for start in STARTS:
        see(page, "#annotate[aria-busy=false]")
        seen = page.evaluate(SEEN)
        assert [box["text"] for box in seen] == [as_stored(text) for text in CORPUS[start : start + 2]]
        (asked,) = page.evaluate(SEEN, "#prompt .turn:last-child .text")
        assert asked["text"] == CORPUS[start]
        for box in (asked, *seen):
            assert (box["hidden"], box["wide"]) == ([], False), start
        before = page.url
        page.keyboard.press("j")
        if start != STARTS[-1]:
            page.wait_for_function("before => location.href !== before", arg=before)
    _nothing_ran(reader)


def test_the_corpus_in_the_history(judged: Server, opened: Callable[..., Reader]) -> None:
    reader = opened(judged, "p0")
    reader.press("h")
    reader.page.wait_for_function(
        "count => document.querySelectorAll('#history-list .snippet').length === count", arg=len(STARTS)
    )
    seen = reader.page.evaluate(SEEN, "#history-list .snippet")
    assert [box["text"] for box in reversed(seen)] == [CORPUS[start][:200] for start in STARTS]
    assert [(box["hidden"], box["wide"]) for box in seen] == [([], False)] * len(STARTS)
    assert reader.page.locator("#history-list .snippet .unseen").count() > 0
    _nothing_ran(reader)
