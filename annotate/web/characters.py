"""Characters that nobody can see, or that make a text look like another: which they are, and their names.

Also the tree of a text (`Node`), in which each of them is an element of its own.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import TypedDict

_ALWAYS = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"  # zero width, direction
    "\u3164\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff"
)
_JOINERS = "\u200c\u200d"  # ordinary parts of scripts and emoji, as are variation selectors
_VARIATIONS = "\ufe00-\ufe0f"
_SPACES = "\t\xa0\u1680\u2000-\u200a\u202f\u205f\u3000"

HIDING = re.compile(
    f"[{_ALWAYS}]|(?:^|(?<=\\s))[{_JOINERS}{_VARIATIONS}]+|[{_JOINERS}]+(?=\\s|$)|[{_JOINERS}]{{2,}}|[{_VARIATIONS}]{{2,}}"
)
"""What formatted text names: everything invisible that is not a working part of a word or an emoji."""

UNSEEN = re.compile(f"[{_ALWAYS}{_JOINERS}{_VARIATIONS}{_SPACES}]| +(?=[\r\n]|\\Z)")
"""What exact text names: everything that is not a plain mark or a single plain space within a line."""

_SHORT = {
    "\t": "TAB",
    "\r": "CR",
    "\x00": "NUL",
    "\x1b": "ESC",
    "\xa0": "NBSP",
    "\xad": "SHY",
    "\u061c": "ALM",
    "\u200b": "ZWSP",
    "\u200c": "ZWNJ",
    "\u200d": "ZWJ",
    "\u200e": "LRM",
    "\u200f": "RLM",
    "\u202a": "LRE",
    "\u202b": "RLE",
    "\u202c": "PDF",
    "\u202d": "LRO",
    "\u202e": "RLO",
    "\u2060": "WJ",
    "\u2066": "LRI",
    "\u2067": "RLI",
    "\u2068": "FSI",
    "\u2069": "PDI",
    "\u202f": "NNBSP",
    "\ufeff": "BOM",
}


def label(characters: str) -> str:
    """A short name of each of these characters: ZWSP, NBSP, or U+2003; spaces at the end of a line are counted."""
    if set(characters) == {" "}:
        return f"{len(characters)}×SP" if len(characters) > 1 else "SP"
    return " ".join(_SHORT.get(character, f"U+{ord(character):04X}") for character in characters)


def full_name(characters: str) -> str:
    """Their names in Unicode."""
    if set(characters) == {" "}:
        return "spaces at the end of a line"
    return ", ".join(unicodedata.name(character, "control character").lower() for character in characters)


class Element(TypedDict, total=False):
    """An element to build: its `tag`, its class (`kind`), the name of an unseen character (`label`, `title`), and how
    far a line of code is indented (`indent`, in columns)."""

    tag: str
    kind: str
    label: str
    title: str
    indent: int
    children: "list[Node]"


Node = str | Element


def named(text: str, unseen: re.Pattern[str]) -> Iterator[Node]:
    """The text, with an element around each character that must be named."""
    at = 0
    for found in unseen.finditer(text):
        if found.start() > at:
            yield text[at : found.start()]
        seen = found.group()
        yield Element(tag="span", kind="unseen", label=label(seen), title=full_name(seen), children=[seen])
        at = found.end()
    if at < len(text):
        yield text[at:]


def text_of(nodes: Sequence[Node]) -> str:
    """The characters of a tree, in order."""
    return "".join(node if isinstance(node, str) else text_of(node["children"]) for node in nodes)
