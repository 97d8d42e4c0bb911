"""Detection of an encoding other than UTF-8; an uncertain detection gives no answer.

charset-normalizer proposes readings. For short texts its first one is often wrong (Latin text as Mac Latin 2, Cyrillic
as half-width Katakana), so a reading must also have the letters that are common in its script.
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

_COMMON = {
    "Chinese": "的一是不了在人有我他这中大来上国和地到以说时要就出会可也你对生能而子得下自之年发后作里"
    "如都同她小好多天想请为什么這個們來對會說時請國為麼後發",
    "Japanese": "のにはをたがでてとしれさいるなこすもらくかりんきっまアイスントル",
    "Korean": "이다의는에을를가한지고로기사도하리어라인나자시있그서",
    "Russian": "оеаинтсрвлкмдпуяыьзбгчй",
    "Greek": "αιοετσνηυρπκμλςάίόέή",
}
"""Letters that are common in a script; a wrong decoding gives rare ones."""
_WESTERN = "àáâãäåæçèéêëìíîïðñòóôõöøùúûüýþÿœßÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖØÙÚÛÜÝÞŒŸ‘’“”‚„–—…•€™‹›«»¡¿°§£©®·\xa0"
_LATIN = ("cp1250", "iso8859_2", "cp1254", "cp1257")
_SCRIPTS = (("Japanese", "[\u3040-\u30ff]"), ("Korean", "[\uac00-\ud7a3]"), ("Chinese", "[\u4e00-\u9fff]"))
_ALPHABETS = (("Russian", "[\u0400-\u04ff]"), ("Greek", "[\u0370-\u03ff]"))


def detect(sample: bytes) -> tuple[str | None, dict[str, str]]:
    """The encoding of a sample, or None if uncertain; and the likely readings, encoding → excerpt."""
    from charset_normalizer import from_bytes

    matches = [match for match in from_bytes(sample) if not match.encoding.startswith("utf")]
    good = [match for match in matches if _reads_well(str(match))]
    encoding = _chosen(sample, good)
    likely = [encoding] if encoding else list(dict.fromkeys(match.encoding for match in (good or matches)))[:3]
    return encoding, {name: _example(sample.decode(name, errors="replace")) for name in likely}


def _chosen(sample: bytes, good: Sequence[Any]) -> str | None:
    """The encoding if certain: its script is not Latin, or it is Western, or no other fits."""
    if good and _script(str(good[0])):
        return str(good[0].encoding)
    western = sample.decode("cp1252", errors="replace")
    if _reads_well(western) and all(letter.isascii() or letter in _WESTERN for letter in western):
        return "cp1252"
    return str(good[0].encoding) if len(good) == 1 and good[0].encoding in _LATIN else None


def _example(text: str) -> str:
    """The text around the first character beyond ASCII."""
    found = re.search(r"[^\x00-\x7f]", text)
    start = found.start() if found else 0
    return text[max(0, start - 15) : start + 15].strip()


def _script(text: str) -> str | None:
    """The script of a text, or None if it is Latin."""
    letters = [letter for letter in text if not letter.isascii() and letter.isalpha()]
    for script, pattern in (*_SCRIPTS, *_ALPHABETS):
        share = sum(bool(re.match(pattern, letter)) for letter in letters) / max(1, len(letters))
        if share > (0.1 if script == "Japanese" else 0.5):
            return script
    return None


def _reads_well(text: str) -> bool:
    """Whether the common letters of its script are common in a text; Latin ones must be among ASCII letters."""
    beyond = [letter for letter in text if not letter.isascii()]
    letters = [letter.lower() for letter in beyond if letter.isalpha()]
    script = _script(text)
    if script is None:
        return all(letter < "\u0250" or letter in _WESTERN for letter in beyond) and _together(text) < 0.4
    common = sum(letter in _COMMON[script] for letter in letters) / len(letters)
    if script in ("Russian", "Greek"):
        return common >= 0.6 and _together(text) > 0.6
    return common >= (0.1 if script == "Chinese" else 0.3)


def _together(text: str) -> float:
    """Share of the letters beyond ASCII that follow another one."""
    follows = [_beyond(before) for before, letter in pairwise(text) if _beyond(letter)]
    return sum(follows) / max(1, len(follows))


def _beyond(letter: str) -> bool:
    return letter.isalpha() and not letter.isascii()
