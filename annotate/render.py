"""Model text as safe HTML that loses nothing. Knows neither page nor store.

Markdown structure (paragraphs, lists, tables, code, emphasis) is shown; everything that could hide characters or
fetch something stays text: raw HTML, images, links, entities, backslashes, reference definitions. An allow-list
sanitiser runs over the result. `as_source` shows the exact characters and marks the invisible ones.
"""

import html
import re
import string
import unicodedata
from collections.abc import Sequence

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

_KEEP_AS_TEXT = ["image", "link", "autolink", "html_inline", "html_block", "reference", "entity"]
_TAGS = {
    *("p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "pre", "code", "em", "strong", "span"),
    *("ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td"),
}
_ATTRIBUTES = {"ol": {"start"}, "span": {"class"}}
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\xa0\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
                        "\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
                        "\U000e0000-\U000e0fff]")  # fmt: skip


def _code(text: str, language: str) -> str:
    label = f'<span class="language">{html.escape(language)}</span>\n' if language else ""
    return f"<pre>{label}<code>{html.escape(text, quote=False)}</code></pre>\n"


def _fence(self: RendererHTML, tokens: Sequence[Token], index: int, options: object, env: object) -> str:
    return _code(tokens[index].content, tokens[index].info.strip())


def _escape(state: StateInline, silent: bool) -> bool:
    """A backslash before punctuation takes its meaning, and both stay visible."""
    pair = state.src[state.pos : state.pos + 2]
    if len(pair) < 2 or pair[0] != "\\" or pair[1] not in string.punctuation:
        return False
    if not silent:
        state.pending += pair
    state.pos += 2
    return True


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True, "linkify": False})
    parser.enable("table").disable(_KEEP_AS_TEXT)
    parser.inline.ruler.at("escape", _escape)
    parser.add_render_rule("fence", _fence)
    return parser


_PARSER = _parser()


def as_markdown(text: str) -> str:
    """Safe HTML of a text read as markdown."""
    return nh3.clean(_PARSER.render(text), tags=_TAGS, attributes=_ATTRIBUTES, link_rel=None)


def as_source(text: str) -> str:
    """Safe HTML of the exact characters, for a `<pre>`; invisible ones are wrapped in a mark that names them."""
    return _INVISIBLE.sub(_mark, html.escape(text, quote=False))


def _mark(match: re.Match[str]) -> str:
    character = match.group()
    code = f"U+{ord(character):04X}"
    name = unicodedata.name(character, "control character").lower()
    # An HTML parser drops NUL and turns CR into LF: these two are shown by their names alone.
    shown = "" if character in "\x00\r" else character
    return f'<span class="invisible" data-code="{code}" title="{code} {name}">{shown}</span>'
