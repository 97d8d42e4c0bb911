"""Cards that are longer than the window: nothing that a key changes is out of sight, and no place is lost."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.annotate.browser.conftest import Reader, Server
from tests.annotate.conftest import make_item
from workbench.data.records import Item, Message

pytestmark = pytest.mark.slow

LONG = "\n\n".join(
    f"Paragraph {n}. " + "A sentence that says a little more about it. " * 9 for n in range(37)
)  # 3,071 words
TURNS = [Message(role=("user", "assistant")[n % 2], content=f"Turn {n}. " + "word " * 60) for n in range(11)]
WIDE = "|" + " Parameters |" * 9 + "\n|" + "---|" * 9 + "\n|" + " 12345678 |" * 9 + "\n"
CODE = "```python\nif condition:\n    result = " + "function(argument) + " * 12 + "1\n```\n"
IN_VIEW = """selector => [...document.querySelectorAll(selector)].every(element => {
  const box = element.getBoundingClientRect();
  const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
  return box.height > 0 && box.top >= 0 && box.bottom <= innerHeight && element.contains(top);
})"""


def talk(name: str) -> Item:
    item = make_item(name, LONG, LONG.replace("a little", "much"))
    return item.model_copy(update={"prompt": (*TURNS[:10], Message(role="user", content=f"Question {name}?"))})


@pytest.fixture(scope="module")
def long(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A wide table beside code, then long talks; a rubric, and answers only after both ends were seen."""
    items = [make_item("wide", WIDE, CODE).model_copy(update={"priority": 1.0}), *(talk(f"t{n}") for n in range(12))]
    server = Server(
        tmp_path_factory.mktemp("long"),
        items,
        *("queue.overlap=20", "queue.overlap_share=1", 'page.rubric=["helpful","honest","harmless"]'),
        "page.must_see=true",
    )
    server.start()
    yield server
    server.kill()


def at_a_talk(server: Server, opened: Callable[..., Reader]) -> Reader:
    """Somebody before the first long card."""
    reader = opened(server, viewport={"width": 1280, "height": 720})
    reader.answer("s", "Enter")
    return reader


def in_view(reader: Reader, *selectors: str) -> None:
    for selector in selectors:
        assert reader.page.evaluate(IN_VIEW, selector), selector


def y(reader: Reader) -> float:
    return float(reader.page.evaluate("() => scrollY"))


# Keeps, for each answer, how far down it was read without a gap, in pixels of its text that nothing covered.
WATCH = """() => {
  const answers = [...document.querySelectorAll('#answers .answer')];
  window.read = answers.map(() => 0);
  window.skipped = [];
  const look = () => answers.forEach((answer, at) => {
    const text = answer.querySelector('.text').getBoundingClientRect();
    const from = answer.querySelector('h2').getBoundingClientRect().bottom - text.top;
    const to = document.getElementById('choices').getBoundingClientRect().top - text.top;
    if (to <= 0) return;
    if (from > window.read[at] + 1) window.skipped.push([at, window.read[at], from]);
    window.read[at] = Math.max(window.read[at], Math.min(to, text.height));
  });
  addEventListener('scroll', look);
  look();
}"""


def read_to_the_end(reader: Reader) -> None:
    for _ in range(5):
        reader.press("]")
        reader.page.wait_for_timeout(60)


def test_a_rubric_is_answered_in_the_bar_and_no_row_is_skipped(long: Server, opened: Callable[..., Reader]) -> None:
    reader = at_a_talk(long, opened)
    before = reader.prompt()
    in_view(reader, "#rows .criterion", "#scale .grade", "#row")
    reader.press("6")
    assert "to its end" in reader.page.text_content("#saved")
    read_to_the_end(reader)
    place = y(reader)
    reader.press("6", "2")
    assert reader.page.text_content("#row") == "3 of 4: honest"
    in_view(reader, "#rows .criterion", "#scale .grade", "#row", "#save")
    reader.press("Enter")
    assert reader.page.text_content("#saved") == "First judge every criterion"
    assert reader.prompt() == before
    reader.press("4", "7")
    assert y(reader) == place
    reader.answer("Enter")
    row = reader.judgements()[-1]
    sign = -1 if row["swapped"] else 1
    assert row["shown"] == 2
    assert row["rubric"] is not None
    assert {name: sign * value for name, value in json.loads(row["rubric"]).items()} == {
        "helpful": -2,
        "honest": 0,
        "harmless": 3,
    }


def test_a_long_pair_is_judged_after_its_ends_without_losing_the_place(
    long: Server, opened: Callable[..., Reader]
) -> None:
    reader = at_a_talk(long, opened)
    in_view(reader, "#prompt .turn:last-child .text", "#answers .answer h2")  # the answers begin on the first screen
    assert reader.page.locator("#prompt .turn:visible").count() == 3
    reader.press("o")
    assert reader.page.locator("#prompt .turn:visible").count() == 11
    reader.press("o", "]", "]")
    reader.page.wait_for_timeout(100)
    in_view(reader, "#asked", "#answers .answer h2", "#choices")  # what was asked and which side is which
    assert reader.page.text_content("#asked").startswith("Question t")
    assert reader.page.get_attribute("#scale .grade", "aria-disabled") == "false"  # both ends were in view
    reader.press("[")
    reader.press("[")
    assert y(reader) == 0


@pytest.mark.parametrize(("on", "back"), [("PageDown", "PageUp"), ("Space", "Shift+Space")])
def test_a_long_pair_is_read_page_by_page_without_a_line_unseen(
    long: Server, opened: Callable[..., Reader], on: str, back: str
) -> None:
    reader = at_a_talk(long, opened)
    reader.page.evaluate(WATCH)
    heights = reader.page.evaluate("() => [...document.querySelectorAll('#answers .text')].map(t => t.offsetHeight)")
    pages = 0
    while min(reader.page.evaluate("() => window.read")) < max(heights) - 1:
        reader.press(on)
        reader.page.wait_for_timeout(60)
        pages += 1
        assert pages < 80
    assert reader.page.evaluate("() => window.skipped") == []
    assert pages < 1.6 * max(heights) / 300  # pages, not lines: 300 of 720 pixels are free at the least
    place = y(reader)
    reader.press(back)
    reader.page.wait_for_timeout(60)
    assert 200 < place - y(reader) < 500
    reader.press("6", "2", "4", "7")
    reader.answer("Enter")
    assert reader.judgements()[-1]["shown"] == 2


def test_edit_and_comment_leave_the_reading_position(long: Server, opened: Callable[..., Reader]) -> None:
    reader = at_a_talk(long, opened)
    read_to_the_end(reader)
    reader.press("2")
    reader.page.evaluate("() => scrollTo(0, 1500)")
    reader.page.wait_for_timeout(100)
    place = y(reader)
    reader.press("e")
    assert reader.page.locator("#answers .answer:first-child #edited").count() == 1
    assert abs(y(reader) - place) < 2
    reader.press("Escape", "c")
    in_view(reader, "#comment")
    reader.page.keyboard.type("a comment")
    reader.press("Escape")
    assert abs(y(reader) - place) < 2


def test_panes_scroll_by_themselves_and_together(long: Server, opened: Callable[..., Reader]) -> None:
    reader = at_a_talk(long, opened)
    tops = "() => [...document.querySelectorAll('#answers .answer')].map(pane => pane.scrollTop)"
    reader.press("p")
    assert reader.page.evaluate("() => document.documentElement.scrollHeight") <= 720
    in_view(reader, "#prompt", "#answers .answer h2", "#choices")
    reader.page.evaluate("() => { document.querySelector('#answers .answer').scrollTop = 300 }")
    reader.page.wait_for_timeout(150)
    assert reader.page.evaluate(tops) == [300, 0]
    reader.press("l")
    reader.page.evaluate("() => { document.querySelector('#answers .answer').scrollTop = 600 }")
    reader.page.wait_for_timeout(150)
    first, second = reader.page.evaluate(tops)
    assert first == 600
    assert second > 400
    reader.page.reload()
    reader.ready()
    assert reader.page.locator("#annotate.panes").count() == 1  # remembered


def test_wide_tables_scroll_and_code_hangs(long: Server, opened: Callable[..., Reader]) -> None:
    reader = opened(long)
    table = reader.page.evaluate("""() => {
      const box = document.querySelector('#answers .wide');
      const cell = box.querySelector('td').getBoundingClientRect();
      return { scrolls: box.scrollWidth > box.clientWidth, line: cell.height, page: document.body.scrollWidth };
    }""")
    assert table["scrolls"]
    assert table["line"] < 45  # one line: no word is broken
    assert table["page"] <= 1280
    starts = reader.page.evaluate("""() => {
      const line = [...document.querySelectorAll('#answers .line')].at(-1);
      const range = document.createRange();
      range.selectNodeContents(line);
      return [...range.getClientRects()].filter(box => box.width > 8).map(box => Math.round(box.x));
    }""")
    assert len(set(starts)) >= 2
    assert max(starts) > min(starts) + 50  # a wrapped line starts right of its own indent


def test_short_pairs_fill_the_screen_and_do_not_scroll(server: Server, opened: Callable[..., Reader]) -> None:
    reader = opened(server, viewport={"width": 1440, "height": 900})
    page = reader.page.evaluate("""() => ({
      height: document.documentElement.scrollHeight,
      card: document.querySelector('#answers .answer').getBoundingClientRect().bottom,
      bar: document.getElementById('choices').getBoundingClientRect().top,
      size: parseFloat(getComputedStyle(document.querySelector('#answers .text')).fontSize),
    })""")
    assert reader.page.is_visible("#guidelines")
    assert page["height"] <= 900
    assert page["bar"] - page["card"] < 40
    assert page["size"] >= 20
    reader.press("g")
    reader.page.reload()
    reader.ready()
    assert reader.page.is_hidden("#guidelines")  # it remembers being closed
