"""Reasons, marked passages, differences and the three views, in the real browser."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.annotate.browser.conftest import Reader, Server
from tests.annotate.browser.test_accessibility import LOOKS, violations
from tests.annotate.conftest import make_item

pytestmark = pytest.mark.slow

MATH = "Euler \U0001f600 wrote **boldly** $e^{i\\pi} + 1 = 0$ and left.\r\n\r\n$$\n\\int_0^1 x\n- y\n$$\nThe end."
PLAIN = "```python\ndef f(x):  # why\n    return 'a'\n```\nThe end of B."
SAME = "The cat sat on the mat. " * 500
BOMB = "$\\def\\a{\\a\\a}\\a$ then $\\frac{1}{$ and "
HOSTILE = BOMB + " ".join(
    f"${tex}$"
    for tex in (
        r"\href{javascript:document.title='ran'}{x}",
        r"\url{https://example.com/}",
        r"\includegraphics{https://example.com/x.png}",
        r"\htmlClass{spoof}{x}",
        r"\htmlId{answers}{x}",
        r"\htmlStyle{position:fixed}{x}",
        r"\htmlData{action=bad}{x}",
        r"x\hspace{-900em}y\rule{900em}{900em}",
        r"\text{<img src=x onerror=document.title='ran'>}",
    )
)

# Selects the text from the first `from` to the end of the first `to` in an answer, whatever elements hold them.
SELECT = """([answer, from, to]) => {
  const box = document.querySelectorAll('#answers .answer > .text')[answer];
  const walker = document.createTreeWalker(box, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  let begun = false;
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (!begun && node.data.includes(from)) {
      range.setStart(node, node.data.indexOf(from));
      begun = true;
    }
    if (begun && node.data.includes(to)) {
      range.setEnd(node, node.data.indexOf(to) + to.length);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      return;
    }
  }
  throw new Error('not found');
}"""
PAINTED = "name => [...(CSS.highlights.get(name) ?? [])].map(range => range.toString())"


@pytest.fixture(scope="module")
def marking(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A pair with math and code, a long pair that differs in two words, hostile math, then plain pairs."""
    items = [
        make_item("math", MATH, PLAIN),
        make_item("alike", SAME, SAME.replace("cat", "dog", 1).replace("mat.", "mat!", 1)),
        make_item("hostile", HOSTILE, "plain"),
        *(make_item(f"p{n}", f"one two {n}", f"three four {n}") for n in range(20)),
    ]
    ordered = [item.model_copy(update={"priority": -float(number)}) for number, item in enumerate(items)]
    server = Server(
        tmp_path_factory.mktemp("marking"),
        ordered,
        *("queue.overlap=20", "queue.overlap_share=1", 'page.reasons=["wrong fact","incomplete","unsafe"]'),
    )
    server.start()
    yield server
    server.kill()


@pytest.fixture
def marker(marking: Server, opened: Callable[..., Reader]) -> Iterator[Reader]:
    """Somebody new before the pair with math; nothing may leave the server, and no script may fail."""
    reader = opened(marking)
    yield reader
    assert reader.foreign == []
    assert reader.problems == []


def side(reader: Reader, start: str) -> int:
    """Which answer begins so."""
    texts = reader.page.locator("#answers .answer > .text").all_text_contents()
    return next(at for at, text in enumerate(texts) if text.startswith(start))


def view(reader: Reader, name: str) -> None:
    while reader.page.get_attribute("#annotate", "data-view") != name:
        before = reader.page.get_attribute("#annotate", "data-view")
        reader.press("r")
        reader.page.wait_for_selector(f"#annotate:not([data-view={before}])")


def passages(reader: Reader, row: sqlite3.Row) -> list[tuple[str, str]]:
    """The marked texts of a stored judgement with their labels, cut out of the stored answers in code points."""
    connection = sqlite3.connect(reader.server.store)
    texts = [
        text
        for (text,) in connection.execute("SELECT text FROM response WHERE item = ? ORDER BY position", (row["item"],))
    ]
    connection.close()
    return [(texts[s["answer"]][s["start"] : s["end"]], s["label"]) for s in json.loads(row["spans"] or "[]")]


@pytest.mark.parametrize("name", ["formatted", "rendered", "exact"])
def test_marked_text_and_a_key_are_a_span_of_the_exact_text(marker: Reader, name: str) -> None:
    view(marker, name)
    at = side(marker, "Euler")
    for start, end, key in (("boldly", "boldly", 1), ("wrote", "and", 2), ("The end.", "The end.", 3)):
        marker.page.evaluate(SELECT, [at, start, end])
        marker.press(f"Shift+Digit{key}")
    marker.page.evaluate(SELECT, [1 - at, "def", "why"])
    marker.press("Shift+Digit1")
    expected = [
        ("wrote **boldly** $e^{i\\pi} + 1 = 0$ and", "incomplete"),
        ("boldly", "wrong fact"),
        ("The end.", "unsafe"),
        ("def f(x):  # why", "wrong fact"),
    ]
    assert marker.page.locator("#spans li").count() == 4
    painted = marker.page.evaluate(PAINTED, "marked")
    assert {"boldly", "The end.", "def f(x):  # why"} <= set(painted)
    if name != "rendered":  # where KaTeX's letters are painted
        assert sorted(painted) == sorted(passage for passage, _ in expected)
    marker.answer("2")
    assert sorted(passages(marker, marker.judgements()[-1])) == sorted(expected)


def test_marks_stay_through_a_reload_an_undo_and_a_change_of_mind(marker: Reader) -> None:
    at = side(marker, "Euler")
    marker.press("Shift+Digit3")  # without marked text: a reason for the judgement
    marker.page.get_by_role("button", name="incomplete").click()
    marker.press("Shift+Digit2")  # and away again
    marker.page.evaluate(SELECT, [at, "boldly", "boldly"])
    word = marker.page.evaluate("""() => {
      const box = getSelection().getRangeAt(0).getBoundingClientRect();
      getSelection().removeAllRanges();
      return [box.x + box.width / 2, box.y + box.height / 2];
    }""")
    marker.page.mouse.dblclick(*word)  # as a person marks a word
    marker.page.get_by_role("button", name="wrong fact").click()
    marker.page.evaluate(SELECT, [at, "left", "left"])
    marker.press("Shift+Digit2")
    marker.page.reload()
    marker.ready()
    assert marker.page.locator("#spans li").count() == 2
    assert sorted(marker.page.evaluate(PAINTED, "marked")) == ["boldly", "left"]
    marker.answer("6")
    row = marker.judgements()[-1]
    assert sorted(passages(marker, row)) == [("boldly", "wrong fact"), ("left", "incomplete")]
    assert json.loads(row["reasons"]) == ["unsafe"]
    assert marker.page.locator("#spans li").count() == 0
    marker.answer("u")
    assert marker.page.locator(".chip[aria-pressed=true]").all_text_contents() == ["unsafe ⇧3"]
    marker.page.get_by_role("button", name="Remove the mark incomplete").click()
    marker.answer("5")
    row = marker.judgements()[-1]
    assert passages(marker, row) == [("boldly", "wrong fact")]
    assert row["shown"] == 1


def test_a_passage_lies_within_one_answer(marker: Reader) -> None:
    marker.page.evaluate("""() => {
      const boxes = document.querySelectorAll('#answers .answer > .text');
      getSelection().setBaseAndExtent(boxes[0], 0, boxes[1], 1);
    }""")
    marker.press("Shift+Digit1")
    assert marker.page.text_content("#saved") == "Mark text within one answer"
    assert marker.page.locator("#spans li").count() == 0
    assert marker.page.locator(".chip[aria-pressed=true]").count() == 0


def test_differences_are_off_until_asked_for_and_noted(marker: Reader) -> None:
    marker.answer("2")
    assert marker.page.evaluate(PAINTED, "only") == []
    marker.press("v")
    found = marker.page.evaluate("() => [...CSS.highlights.get('only')].map(r => r.toString())")
    assert sorted(found) == ["!", ".", "cat", "dog"]
    assert marker.page.get_attribute("#differences", "aria-pressed") == "true"
    marker.answer("4")
    assert marker.page.get_attribute("#differences", "aria-pressed") == "false"
    assert marker.page.evaluate(PAINTED, "only") == []
    marker.answer("4")
    assert [row["differences_shown"] for row in marker.judgements()] == [0, 1, 0]


def test_math_is_set_by_katex_from_this_server(marker: Reader) -> None:
    fetched: list[tuple[str, int]] = []
    marker.page.on("response", lambda reply: fetched.append((reply.url, reply.status)))
    box = marker.page.locator("#answers .answer > .text").nth(side(marker, "Euler"))
    assert "e^{i\\pi}" in box.inner_text()
    view(marker, "rendered")
    marker.page.wait_for_function("() => document.querySelectorAll('.typeset .katex').length === 2")
    assert box.locator(".typeset.block .katex-display").count() == 1
    assert "**" not in box.inner_text()
    assert box.locator(".typeset").first.get_attribute("title") == "$e^{i\\pi} + 1 = 0$"
    marker.page.wait_for_function("() => document.fonts.check('16px KaTeX_Math')")
    katex = [(url, status) for url, status in fetched if "/katex/" in url]
    assert {url.rpartition(".")[2] for url, _ in katex} == {"js", "css", "woff2"}
    assert {status for _, status in katex} == {200}
    marker.page.reload()
    marker.ready()
    marker.see("#annotate[data-view=rendered] .typeset .katex")  # the view is remembered
    view(marker, "exact")
    assert sorted(marker.page.locator("#answers .text.exact").all_text_contents()) == sorted([MATH, PLAIN])


def test_hostile_math_runs_nothing_and_stays_in_its_place(marker: Reader) -> None:
    marker.answer("2")
    marker.answer("2")
    view(marker, "rendered")
    marker.see("#answers .typeset")
    kinds = ":is(a, img, script, iframe, form, .spoof, [data-action], [id=answers])"
    assert marker.page.locator(f"#answers .answer > .text {kinds}").count() == 0
    assert marker.page.title() == "Which answer is better?"
    assert marker.page.locator("#answers .typeset").count() == 9
    kept = marker.page.evaluate("""() => {
      const box = document.querySelector('#answers .answer > .text:has(.typeset)');
      const [own, card] = [box, box.closest('.answer')].map(element => element.getBoundingClientRect());
      const style = getComputedStyle(box);
      return {
        clipped: style.overflowX === 'auto' && style.overflowY === 'hidden',
        inside: own.left >= card.left && own.right <= card.right && own.bottom <= card.bottom,
        height: own.height,
      };
    }""")
    assert kept["clipped"]
    assert kept["inside"]
    assert kept["height"] < 900  # some lines, and a rule of 900 em at 20 em
    assert marker.page.locator("#answers code.math").count() >= 2  # what KaTeX refuses stays as its source


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing_on_a_card_with_marks(look: str, marking: Server, opened: Callable[..., Reader]) -> None:
    marker = opened(marking, **LOOKS[look])
    at = side(marker, "Euler")
    marker.page.evaluate(SELECT, [at, "wrote", "and"])
    marker.press("Shift+Digit1", "Shift+Digit2", "v")
    for name in ("formatted", "rendered", "exact"):
        view(marker, name)
        marker.page.wait_for_timeout(200)
        assert violations(marker.page) == [], name
    assert marker.page.locator("#spans li").count() == 1
