"""Lists that were written as text into a cell: JSON, Python's own notation, numpy's without commas. Pure."""

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
    """A cell looks like a list and cannot be read as one."""


def cell_value(cell: str) -> Any:
    """A cell's text, or the list that was written into it.

    A list of texts or objects is read back; `[1]`, `[x]` or `[INST]` are text.

    Raises:
        CellError: it begins like such a list and is none.
    """
    if _MESSAGES.match(cell) or (_TEXTS.match(cell) and re.search(r"\]\s*(?:,\s*dtype=\w+\s*)?\)?\s*\Z", cell)):
        return list_of(cell)
    return cell


def messages_in(text: str) -> Any:
    """The list of messages that a text is as a whole, in JSON or Python's notation; else the text."""
    if not _MESSAGES.match(text):
        return text
    try:
        value = list_of(text)
    except CellError:
        return text
    entries = all(isinstance(entry, dict) and any(keys <= set(entry) for keys in _MESSAGE_KEYS) for entry in value)
    return value if value and entries else text


def list_of(text: str) -> list[Any]:
    """The list that a text is.

    Raises:
        CellError: it is none.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = _printed(text)
    if not isinstance(value, list) or not _plain(value):
        raise CellError(_short(text))
    return value


def _printed(text: str) -> Any:
    """What Python or numpy printed. numpy leaves the commas out, and two texts side by side would become one."""
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
    """Whether a value holds what JSON can hold: numpy's `...` for entries left out is none."""
    if isinstance(value, list):
        return all(map(_plain, value))
    if isinstance(value, dict):
        return all(map(_plain, value.values()))
    return value is None or isinstance(value, str | int | float)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:40] + " … " + text[-15:])
