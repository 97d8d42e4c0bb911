"""Lists that were written as text into a cell, as JSON, Python or numpy print them."""

import ast
import io
import json
import re
import tokenize
from typing import Any

_MESSAGES = re.compile(r"""\s*(?:array\(\s*)?\[\s*(?:array\(\s*\[?\s*)?\{\s*['"]""")
_TEXTS = re.compile(r"""\s*(?:array\(\s*)?\[\s*(?:['"]|\[\s*['"])""")
_MESSAGE_KEYS = ({"role", "content"}, {"from", "value"})


class CellError(ValueError):
    """A cell looks like a list but cannot be parsed."""


def cell_value(cell: str) -> Any:
    """A cell's text, or the list of texts or objects that it holds; `[1]`, `[x]` or `[INST]` are text.

    Raises:
        CellError: it looks like such a list but cannot be parsed.
    """
    if _MESSAGES.match(cell) or (_TEXTS.match(cell) and re.search(r"\]\s*(?:,\s*dtype=\w+\s*)?\)?\s*\Z", cell)):
        return list_of(cell)
    return cell


def messages_in(text: str) -> Any:
    """The list of messages that a text consists of, or else the text."""
    if not _MESSAGES.match(text):
        return text
    try:
        value = list_of(text)
    except CellError:
        return text
    entries = all(isinstance(entry, dict) and any(keys <= set(entry) for keys in _MESSAGE_KEYS) for entry in value)
    return value if value and entries else text


def list_of(text: str) -> list[Any]:
    """The list that a text holds.

    Raises:
        CellError: it holds none.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = _printed(text)
    if not isinstance(value, list) or not _plain(value):
        raise CellError(_short(text))
    return value


def _printed(text: str) -> Any:
    """The value that Python or numpy printed. numpy omits commas, without which adjacent texts would be joined."""
    tokens: list[tuple[int, str]] = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(text.strip()).readline):
            if token.type in (tokenize.NEWLINE, tokenize.NL, tokenize.ENDMARKER, tokenize.INDENT, tokenize.DEDENT):
                continue
            begins = token.type in (tokenize.STRING, tokenize.NUMBER) or token.string in ("{", "[", "array")
            if tokens and begins and (tokens[-1][0] == tokenize.STRING or tokens[-1][1] in ("}", "]", ")")):
                tokens.append((tokenize.OP, ","))
            tokens.append((token.type, token.string))
        source = " ".join(string for _, string in tokens)
        source = re.sub(r"\barray \( (.*?) (?:, dtype = \w+ )?\)", r"\1", source) if "array (" in source else source
        return ast.literal_eval(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError):
        raise CellError(_short(text)) from None


def _plain(value: Any) -> bool:
    """Whether JSON could hold a value; numpy's `...` for omitted entries is an example of one that it could not."""
    if isinstance(value, list):
        return all(map(_plain, value))
    if isinstance(value, dict):
        return all(map(_plain, value.values()))
    return value is None or isinstance(value, str | int | float)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:40] + " … " + text[-15:])
