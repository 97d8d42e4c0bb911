"""Model text as a tree of plain text and a few element names, losing nothing. Knows neither page nor store.

The tree's text, read in order, *is* the source, character by character, in both views. Formatted text shows markdown by
how it looks and keeps its signs, dimmed (`kind` "sign"); exact text names each character that cannot be seen. No markup
is ever made or parsed: `assets/text.js` builds the elements and sets their text.

Structure comes from markdown-it; where its tokens are in the source is found again by walking both in order. What
cannot be found is shown as it stands: a misread loses an emphasis, never a character.
"""

import itertools
import re
import string
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.ruler import RuleOptionsType
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

from annotate.web.characters import HIDING, UNSEEN, Element, Node, named
from annotate.web.highlight import kinds_of

_NUMBER = re.compile(r"[-+−±~≈<>]?\s?[$€£]?\d[\d.,'  ]*\s?[%‰kKMB€]?")
"""A cell with nothing but a number: it is aligned with the others of its column."""
MOST_COLUMNS = 10
"""Wider tables are shown line by line, as code is: their columns would not fit beside one another."""
LONGEST_FORMATTED = 50_000
"""Longer texts, in characters, are shown without formatting."""
MOST_MATH_LINES = 60
"""Lines of a formula: a bound on the search for its end."""

_KEEP_AS_TEXT = ["image", "link", "autolink", "html_inline", "html_block", "reference", "entity"]
_BLOCKS = {
    "paragraph_open": "p",
    "blockquote_open": "blockquote",
    "bullet_list_open": "ul",
    "ordered_list_open": "ol",
    "list_item_open": "li",
}
_EMPHASIS = {"strong_open": "strong", "em_open": "em", "s_open": "s"}
_MATH = re.compile(r"\$\$.+?\$\$|\$(?![\s$])[^$\n]*?(?<!\s)\$(?!\d)|\\\(.+?\\\)|\\\[.+?\\\]", re.DOTALL)


def _escape(state: StateInline, silent: bool) -> bool:
    """A backslash before punctuation takes its meaning, and both stay visible."""
    pair = state.src[state.pos : state.pos + 2]
    if len(pair) < 2 or pair[0] != "\\" or pair[1] not in string.punctuation:
        return False
    if not silent:
        state.pending += pair
    state.pos += 2
    return True


def _math(state: StateInline, silent: bool) -> bool:
    """LaTeX between dollars or \\( \\) stays as it is: its stars and underscores are no emphasis."""
    if state.src[state.pos] not in "$\\":
        return False
    found = _MATH.match(state.src, state.pos, state.pos + 2000)
    if found is None:
        return False
    if not silent:
        state.push("math", "", 0).content = found.group()
    state.pos = found.end()
    return True


def _math_block(state: StateBlock, first_line: int, end_line: int, silent: bool) -> bool:
    """LaTeX on lines of its own, from $$ or \\[ to the end: its lines begin no list and no heading."""
    start = state.bMarks[first_line] + state.tShift[first_line]
    closing = {"$$": "$$", "\\[": "\\]"}.get(state.src[start : start + 2])
    if closing is None or state.is_code_block(first_line):
        return False
    for line in range(first_line, min(end_line, first_line + MOST_MATH_LINES)):
        begin = start + 2 if line == first_line else state.bMarks[line] + state.tShift[line]
        content = state.src[begin : state.eMarks[line]].rstrip()
        place = content.find(closing)
        if place >= 0:
            if place + 2 < len(content) or (line == first_line and not content[:-2].strip()):
                return False
            if not silent:
                token = state.push("math_block", "", 0)
                token.map, token.meta = [first_line, line + 1], {"start": start, "end": begin + len(content)}
                state.line = line + 1
            return True
        again = line > first_line and content.startswith(state.src[start : start + 2])
        if again or state.isEmpty(line) or state.sCount[line] < state.blkIndent:
            return False
    return False


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True, "linkify": False})
    parser.enable(["table", "strikethrough"]).disable(_KEEP_AS_TEXT)
    interrupts: RuleOptionsType = {"alt": ["paragraph", "blockquote", "list"]}
    parser.block.ruler.before("fence", "math_block", _math_block, interrupts)
    parser.inline.ruler.at("escape", _escape)
    parser.inline.ruler.before("escape", "math", _math)
    return parser


_PARSER = _parser()


def as_markdown(text: str) -> list[Node]:
    """The tree of a text read as markdown."""
    if len(text) > LONGEST_FORMATTED:
        return list(named(text, HIDING))
    # Same length, so that places agree: what markdown-it would rewrite before it reads.
    plain = text.replace("\r\n", " \n").replace("\r", "\n").replace("\x00", "\ufffd")
    return _Walk(text, plain).tree(_PARSER.parse(plain))


def as_source(text: str) -> list[Node]:
    """The tree of the exact characters."""
    return list(named(text, UNSEEN))


def as_line(text: str, most: int) -> list[Node]:
    """The first `most` characters, for a list of items: as they are, what hides or turns text is named."""
    return list(named(text[:most], HIDING))


def shown_text(text: str) -> dict[str, Any]:
    """A text as a browser is told of it: as it is, and the two trees."""
    return {"text": text, "formatted": as_markdown(text), "exact": as_source(text)}


class _Walk:
    """Goes through the source once, from front to back, and puts every character into the tree as it passes."""

    def __init__(self, source: str, plain: str) -> None:
        self._source, self._plain, self._at = source, plain, 0
        self._lines = [0, *(found.end() for found in re.finditer("\n", plain))]
        self._root: list[Node] = []
        self._open: list[list[Node]] = [self._root]

    def tree(self, tokens: Sequence[Token]) -> list[Node]:
        """All blocks."""
        ends: list[int] = []
        waiting = iter(tokens)
        for token in waiting:
            if token.type == "table_open":
                self._table(token)
                while next(waiting).type != "table_close":
                    pass
            elif token.type == "inline":
                self._inline(token.children or [], self._end(token))
            elif token.type in ("fence", "code_block"):
                self._code(token)
            elif token.type in ("hr", "math_block"):
                self._alone(token)
            elif token.nesting == 1:
                ends.append(self._end(token))
                if not token.hidden:
                    self._begin(_tag(token), "", self._start(token))
            elif token.nesting == -1:
                end = ends.pop()
                self._pass(end) if token.hidden else self._finish(end)
        self._pass(len(self._source))
        return self._root

    def _start(self, token: Token) -> int:
        return self._lines[token.map[0]] if token.map else self._at

    def _end(self, token: Token) -> int:
        """Where a block's last line ends, its line feed included."""
        last = token.map[1] if token.map else len(self._lines)
        return self._lines[last] if last < len(self._lines) else len(self._source)

    # What is passed becomes text, or a sign

    def _pass(self, end: int, *, sign: bool = True) -> None:
        """Up to `end`: signs of markdown, or text."""
        passed = self._source[self._at : end]
        if not passed:
            return
        self._at = end
        nodes = list(named(passed, HIDING))
        if sign and passed.strip():
            nodes = [Element(tag="span", kind="sign", children=nodes)]
        self._open[-1].extend(nodes)

    def _begin(self, tag: str, kind: str = "", start: int = 0) -> None:
        self._pass(max(start, self._at))
        element = Element(tag=tag, children=[])
        if kind:
            element["kind"] = kind
        self._open[-1].append(element)
        self._open.append(element["children"])

    def _finish(self, end: int = 0) -> None:
        self._pass(max(end, self._at))
        self._open.pop()

    def _find(self, text: str, end: int) -> int:
        return self._plain.find(text, self._at, end) if text else -1

    # Within a paragraph

    def _inline(self, tokens: Sequence[Token], end: int) -> None:
        depth = len(self._open)
        for token in tokens:
            if token.type in _EMPHASIS:
                place = self._find(token.markup, end)
                self._begin(_EMPHASIS[token.type], "", max(place, self._at))
                self._pass(max(place + len(token.markup), self._at))
            elif token.type.endswith("_close"):
                place = self._find(token.markup, end)
                self._finish(place + len(token.markup))
            elif token.type == "code_inline":
                self._ticks(token.markup, end)
            elif token.content:
                self._text(token, end)
        assert len(self._open) == depth  # markdown-it closes what it opens

    def _text(self, token: Token, end: int) -> None:
        place = self._find(token.content, end)
        if place < 0:
            return  # passed with the end of the block
        self._pass(place)
        if token.type == "math":
            self._begin("code", "math")
        self._pass(place + len(token.content), sign=False)
        if token.type == "math":
            self._finish()

    def _ticks(self, ticks: str, end: int) -> None:
        fence = re.compile(f"(?<!`){ticks}(?!`)")
        first = fence.search(self._plain, self._at, end)
        last = fence.search(self._plain, first.end(), end) if first else None
        if first is None or last is None:
            return
        self._pass(first.start())
        self._begin("code")
        self._pass(first.end())
        self._pass(last.start(), sign=False)
        self._pass(last.end())
        self._finish()

    # Blocks that are not paragraphs

    def _alone(self, token: Token) -> None:
        """A rule, or a formula on lines of its own."""
        self._begin("p", "rule" if token.type == "hr" else "", self._start(token))
        if token.type == "math_block":
            self._begin("code", "math", token.meta["start"])
            self._pass(token.meta["end"], sign=False)
            self._finish()
        self._finish(self._end(token))

    def _code(self, token: Token) -> None:
        end = self._end(token)
        self._begin("pre", "", self._start(token))
        if token.type == "fence":
            self._pass(min(self._line_after(self._start(token)), end))
        language = token.info.split(maxsplit=1)[0].strip("{.}").lower() if token.info.strip() else ""
        kinds, at = kinds_of(token.content, language), 0
        for line in token.content.removesuffix("\n").split("\n"):
            first = at + len(line) - len(line.lstrip())
            at += len(line) + 1
            place = self._find(line.strip(), end)
            if place < 0:
                continue
            start = self._lines[bisect_right(self._lines, place) - 1]
            self._begin("span", "line", start)
            self._open[-2][-1]["indent"] = len(self._plain[start:place].expandtabs())  # type: ignore[index]
            self._pass(place)
            for kind, part in itertools.groupby(kinds[first : first + len(line.strip())]):
                self._coloured(kind, min(self._at + len(list(part)), end))
            self._finish(min(self._line_after(place), end))
        self._finish(end)

    def _coloured(self, kind: str, end: int) -> None:
        if kind:
            self._begin("span", kind)
        self._pass(end, sign=False)
        if kind:
            self._finish()

    def _line_after(self, place: int) -> int:
        number = bisect_right(self._lines, place)
        return self._lines[number] if number < len(self._lines) else len(self._source)

    def _table(self, token: Token) -> None:
        assert token.map is not None
        first, last = token.map
        starts = self._lines[first:last]
        if max(len(self._cells(start, self._line_after(start))) for start in starts) > MOST_COLUMNS:
            self._begin("pre", "", starts[0])
            self._pass(self._end(token), sign=False)
            self._finish()
            return
        self._begin("table", "", self._lines[first])
        self._begin("tbody")
        for number in range(first, last):
            kind = {0: "head", 1: "rule"}.get(number - first, "")
            self._begin("tr", kind)
            ends = self._cells(self._lines[number], self._line_after(self._lines[number]))
            for end in ends:
                self._begin("td", "amount" if _NUMBER.fullmatch(self._plain[self._at : end].strip(" \t\r\n>|")) else "")
                if kind != "rule":
                    self._cell(end)
                self._finish(end)
            self._finish()
        self._finish()
        self._finish(self._end(token))

    def _cells(self, start: int, end: int) -> list[int]:
        """Where each cell of a row ends: before the next bar; bars at the row's edges belong to the outer cells."""
        row = self._plain[start:end]
        bars = [found.start() for found in re.finditer(r"\\.|\|", row) if found.group() == "|"]
        inner = [bar for bar in bars if row[:bar].strip(" \t>") and row[bar + 1 :].strip()]
        return [*(start + bar for bar in inner), end]

    def _cell(self, end: int) -> None:
        words = re.compile(r"[\s>|]*").match(self._plain, self._at, end)
        assert words is not None
        self._pass(words.end())
        inner = self._plain[self._at : end].rstrip().removesuffix("|")
        limit = self._at + len(inner)
        inline = _PARSER.parseInline(inner)
        self._inline(inline[0].children or [], limit)


def _tag(token: Token) -> str:
    if token.type == "heading_open":
        return f"h{min(int(token.tag[1]) + 2, 6)}"  # the page itself has levels 1 and 2
    return _BLOCKS[token.type]
