"""The rendering corpus, a ranking and a rubric in the real browser."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.annotate.browser.conftest import Reader, Server
from tests.annotate.browser.corpus import CORPUS, SEEN, as_stored, pairs
from tests.annotate.conftest import make_item
from workbench.data.records import Response

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def strange(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A ranking, a plain pair, and the corpus, two texts an item; with a rubric."""
    four = tuple(Response(id=str(n), text=f"answer {n}", run="runs/one") for n in range(4))
    items = [make_item("four", responses=four), make_item("plain")]
    items += pairs()
    server = Server(
        tmp_path_factory.mktemp("strange"),
        items,
        *("queue.overlap=2", "queue.overlap_share=1", "queue.compare=ranking", 'page.rubric=["helpful","honest"]'),
    )
    server.start()
    yield server
    server.kill()


def test_the_corpus_in_one_page_load(strange: Server, opened: Callable[..., Reader]) -> None:
    reader = opened(strange)
    loads: list[str] = []
    reader.page.on("framenavigated", lambda frame: loads.append(frame.url))
    reader.hurry()
    reader.answer("x")
    reader.answer("x")
    for start in range(0, len(CORPUS) - 1, 2):
        assert reader.prompt() == f"Question c{start}?"
        expected = sorted(map(as_stored, CORPUS[start : start + 2]))
        for view in ("formatted", "rendered", "exact"):
            reader.see(f"#annotate[data-view={view}]")
            seen = reader.page.evaluate(SEEN)
            assert [box["wide"] for box in seen] == [False, False], (view, start)
            if view != "rendered":  # where math and signs are not shown as they were written
                assert sorted(box["text"] for box in seen) == expected, view
                assert [box["hidden"] for box in seen] == [[], []], view
            reader.press("r")
        if start + 2 < len(CORPUS):
            reader.answer("x")
    assert reader.page.title() == "Which answer is better?"  # no script ran
    assert (
        reader.page.evaluate("() => document.querySelectorAll('#answers :is(img,script,iframe,form,a,svg)').length")
        == 0
    )
    assert reader.page.locator("#choices").count() == 1
    assert loads == []
    assert reader.foreign == []
    assert reader.problems == []


def test_a_ranking_and_a_rubric_by_keyboard(strange: Server, opened: Callable[..., Reader]) -> None:
    reader = opened(strange)
    shown = reader.page.locator("#answers .text").all_text_contents()
    assert len(shown) == 4
    reader.press("Enter")
    assert reader.page.text_content("#saved") == "First rank every answer"
    reader.press("3", "2", "Backspace", "1", "t", "4", "2")
    assert reader.page.text_content("#order") == "Best first: C > A = D > B"
    assert [badge.strip() for badge in reader.page.locator("#answers .rank").all_text_contents()] == [
        "2.",
        "4.",
        "1.",
        "2.",
    ]
    reader.page.reload()
    reader.ready()
    assert reader.page.text_content("#order") == "Best first: C > A = D > B"  # the draft was kept
    reader.answer("Enter")

    reader.press("6", "2", "7", "Backspace", "5")  # overall, helpful, honest; back to helpful
    reader.page.click("#rows .criterion:nth-child(3)")
    assert reader.page.text_content("#row") == "3 of 3: honest"
    reader.press("4")
    reader.answer("f", "1", "Enter")
    ranked, compared = reader.judgements()
    order = json.loads(ranked["display_order"])
    ranks = json.loads(ranked["ranking"])
    assert ranked["choice"] == "ranked"
    assert [ranks[position] for position in order] == [2, 4, 1, 2]
    assert [f"answer {position}" for position in order] == shown
    sign = -1 if compared["swapped"] else 1
    assert compared["shown"] == 2
    assert json.loads(compared["rubric"]) == {"helpful": sign * 1, "honest": 0}
    assert compared["flag"] == "pii"
