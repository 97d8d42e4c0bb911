import html
import re
from html.parser import HTMLParser

import pytest

from annotate.render import as_markdown, as_source

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "![x](http://example.com/x.png)",
    "[click](javascript:alert(1))",
    "[click](http://example.com)",
    "<http://example.com>",
    "${alert(1)} {{alert(1)}} <%= x %>",
    "List<String> tail",
    "&lt;b&gt; &amp; &#x27; &nbsp;",
    r"\(x^2\) and \[y\] and \*stars\*",
    "[note]: http://example.com 'title'",
    "<div style='position:fixed'>x</div>",
    "<form action=http://example.com><input></form>",
    "a < b && c > d",
    "<!-- hidden -->",
    "שלום עולם",
    "x" * 20_000,
    "```html\n<script>alert(1)</script>\n```",
    "`<b>`",
    "line one\nline two",
]
_ALLOWED = {
    *("p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "pre", "code", "em", "strong", "span"),
    *("ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td"),
}


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


def _read(markup: str) -> _Reader:
    reader = _Reader()
    reader.feed(markup)
    reader.close()
    return reader


def _letters(text: str) -> str:
    return re.sub(r"[\s`]", "", text)


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_runs_and_nothing_is_fetched(text: str) -> None:
    for tag, attributes in _read(as_markdown(text)).tags:
        assert tag in _ALLOWED
        assert all((tag, name) in {("ol", "start"), ("span", "class")} for name, _ in attributes)


@pytest.mark.parametrize("text", HOSTILE)
def test_no_character_vanishes(text: str) -> None:
    assert _letters(_read(as_markdown(text)).text) == _letters(text)


@pytest.mark.parametrize("text", [*HOSTILE, "zero\u200bwidth", "  two  spaces\t\n\n"])
def test_the_source_view_shows_exactly_the_text(text: str) -> None:
    reader = _read(as_source(text))
    assert reader.text == text
    assert {tag for tag, _ in reader.tags} <= {"span"}


def test_invisible_characters_are_named() -> None:
    markup = as_source("a\u200bb\u202ec\x00d\re")
    codes = [dict(attributes)["data-code"] for _, attributes in _read(markup).tags]
    assert codes == ["U+200B", "U+202E", "U+0000", "U+000D"]
    assert "\x00" not in markup


def test_structure_is_shown() -> None:
    markup = as_markdown("# T\n\n- a\n- **b**\n\n| x |\n|---|\n| 1 |\n\n```python\nx < 1\n```\n\n3. third")
    tags = [tag for tag, _ in _read(markup).tags]
    assert {"h1", "ul", "li", "strong", "table", "td", "pre", "code", "ol"} <= set(tags)
    assert 'start="3"' in markup
    assert html.unescape(markup).count("x < 1") == 1
    assert "python" in markup  # the language of a fence is part of the text
