"""Checks of single texts: remains of markup and broken encodings, and answers that should not be imitated."""

import re
from collections import Counter
from collections.abc import Callable, Sequence

from workbench.validate.entries import Entry
from workbench.validate.findings import Finding, Spot, rows_finding

_SPECIAL = re.compile(
    r"<\|(?!im_start)[a-z_]{2,24}\|>|</?s>(?=\s|$)|<<SYS>>|<(?:start|end)_of_turn>|\[INST\]|<(?:unk|pad|bos|eos)>"
)
_HTML = re.compile(
    r"</?(?:br|p|div|span|a|ul|ol|li|td|tr|table|h[1-6]|strong|em|b|i|font|img)(?:\s[^<>]*)?/?>"
    r"|&(?:amp|lt|gt|quot|nbsp|apos|#\d{2,5}|#x[0-9a-fA-F]{2,4});"
)
_BEYOND = "".join(bytes([code]).decode("cp1252", errors="ignore") for code in range(0x80, 0x100))
_WINDOWS = re.compile(f"[{re.escape(_BEYOND)}\u0080-\u009f]{{2,}}")
"""Two or more characters that Windows-1252 has beyond ASCII."""
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060\ufeff]")
"""Not the joiners U+200C and U+200D, which Persian and emoji need."""
_PLACEHOLDER = re.compile(
    r"(?:todo|tbd|tba|n/?a|none|null|nan|undefined|xxx+|placeholder|<?no ?(?:output|input|answer|response)>?|\.{3}|…"
    r"|lorem ipsum\b.*|\[(?:answer|response|insert[^\]]*|your answer here)\])\.?",
    re.IGNORECASE | re.DOTALL,
)
_REFUSAL = re.compile(
    r"as an? (?:ai|artificial intelligence)(?: language)?(?: model| assistant)?\b|\bi(?:'m| am) (?:just )?an ai\b"
    r"|\bi(?:'m| am) (?:sorry|unable)\b.{0,40}\b(?:can(?:no|'|’)t|cannot|unable|not able)\b"
    r"|^i (?:can(?:no|'|’)t|cannot) (?:assist|help|fulfil|comply|provide)",
    re.IGNORECASE,
)
_OPENING = 200
"""Characters of an answer in which a refusal shows."""
_LONG = 120
"""Characters from which an answer should end like a sentence."""
_OPEN_END = re.compile(r"(?:^|\n)(?=[^\n]{60})[^\n]*[\w,]\s*\Z")
"""A last line of prose that ends with a word or a comma."""
_NO_PROSE = re.compile(r"```|(?:https?://|www\.|#|@)\S*\s*\Z")
_FEW = 0.1
"""Share of a file's long answers that may end like no sentence; beyond it, that is how the file is written."""
_WINDOW, _REPEATED, _FEWEST = 4, 0.5, 24
"""Words of a window, the share of windows that repeat an earlier one, and the fewest words to judge."""


def check_texts(path: str, entries: Sequence[Entry]) -> list[Finding]:
    """Findings about single texts of one file."""
    found: list[Finding] = []
    for kind, pattern in (
        ("special-token", _SPECIAL),
        ("replacement-character", re.compile("\ufffd")),
        ("control-character", CONTROL),
    ):
        found += _of_each(kind, path, entries, lambda entry, pattern=pattern: _excerpt(pattern, entry))  # type: ignore[misc]
    found += _of_each("html", path, entries, _markup)
    found += _of_each("mojibake", path, entries, _misread)
    for kind, wrong in (
        ("outer-whitespace", _padded),
        ("repetition", _repeats),
        ("placeholder", _placeholder),
        ("echo", _echo),
        ("refusal", _refuses),
    ):
        found += _of_each(kind, path, entries, wrong)
    return found + _cut_off(path, entries)


def _of_each(kind: str, path: str, entries: Sequence[Entry], wrong: Callable[[Entry], str]) -> list[Finding]:
    """The entries about which `wrong` says something."""
    spots = [Spot(entry.place, said) for entry in entries if (said := wrong(entry))]
    return rows_finding(kind, path, spots, len(entries))


def _excerpt(pattern: re.Pattern[str], entry: Entry) -> str:
    for text in (entry.prompt, *entry.answers):
        if found := pattern.search(text):
            start = max(0, found.start() - 25)
            return f"{text[start : found.end() + 25]!r}"
    return ""


def _misread(entry: Entry) -> str:
    """Characters that are valid UTF-8 if they are written in Windows-1252."""
    for text in (entry.prompt, *entry.answers):
        for found in _WINDOWS.finditer(text):
            raw = b"".join(_bytes_of(character) for character in found.group())
            meant = raw.decode("utf-8", errors="replace")
            if any(letter > "\x7f" and letter != "\ufffd" for letter in meant):
                return f"{found.group()!r}, which was {meant!r}"
    return ""


def _bytes_of(character: str) -> bytes:
    """The byte of a character in Windows-1252, or in Latin-1 for the five that it lacks."""
    try:
        return character.encode("cp1252")
    except UnicodeEncodeError:
        return character.encode("latin-1")


def _markup(entry: Entry) -> str:
    """Markup outside of code."""
    code = any("```" in text or "<html" in text.lower() for text in (entry.prompt, *entry.answers))
    return "" if code else _excerpt(_HTML, entry)


def _trained(entry: Entry) -> tuple[str, ...]:
    """The texts of answers, without the text of a classification."""
    return entry.answers if entry.prompt else ()


def _padded(entry: Entry) -> str:
    """Whitespace around the answer to imitate."""
    text = _trained(entry)[0] if entry.imitated else ""
    return f"{text[:20]!r} … {text[-20:]!r}" if text != text.strip() else ""


def _repeats(entry: Entry) -> str:
    for text in _trained(entry):
        words = text.split()
        if len(words) >= _FEWEST:
            windows = [tuple(words[i : i + _WINDOW]) for i in range(len(words) - _WINDOW + 1)]
            if 1 - len(set(windows)) / len(windows) >= _REPEATED:
                return repr(" ".join(Counter(windows).most_common(1)[0][0]))
    return ""


def _placeholder(entry: Entry) -> str:
    return next((repr(text[:40]) for text in _trained(entry) if _PLACEHOLDER.fullmatch(text.strip())), "")


def _echo(entry: Entry) -> str:
    asked = entry.prompt.strip()
    return next((repr(text[:40]) for text in _trained(entry) if text.strip() == asked), "")


def _refuses(entry: Entry) -> str:
    text = _trained(entry)[0] if entry.imitated else ""
    found = _REFUSAL.search(text[:_OPENING])
    return repr(text[found.start() : found.end() + 30]) if found else ""


def _cut_off(path: str, entries: Sequence[Entry]) -> list[Finding]:
    """Long answers without an end, if almost all others have one."""
    long = [entry for entry in entries if entry.imitated and len(_trained(entry)[0].strip()) >= _LONG]
    cut = [entry for entry in long if _is_open(_trained(entry)[0])]
    if len(long) < 10 or len(cut) > _FEW * len(long):
        return []
    spots = [Spot(entry.place, f"… {_trained(entry)[0].strip()[-40:]!r}") for entry in cut]
    return rows_finding("cut-off", path, spots, len(entries))


def _is_open(text: str) -> bool:
    return bool(_OPEN_END.search(text)) and not _NO_PROSE.search(text)
