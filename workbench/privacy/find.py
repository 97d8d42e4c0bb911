"""Finds personal data in a text. Knows no key and no record.

E-mail addresses, phone numbers, IBANs, card numbers and IP addresses are found by the recognisers of presidio-analyzer
(patterns with checksums; phone numbers by `phonenumbers`); names by the rules of `names.py`. No model and no network.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, get_args

from workbench.privacy.names import find_names
from workbench.run.errors import WorkbenchError, did_you_mean
from workbench.run.sections import PersonalKind as Kind

KINDS: tuple[Kind, ...] = get_args(Kind)
"""If two findings overlap, the kind that comes first here wins: those with a checksum before those without."""
INSTALL = "pip install 'alignment-workbench[privacy]'"
_FEWEST_DIGITS: Mapping[Kind, int] = {"iban": 10, "card": 12, "phone": 7}
TOKEN = re.compile(rf"\[(?:{'|'.join(kind.upper() for kind in KINDS)})_[0-9a-f]{{10}}\]")
"""A mask, such as `[EMAIL_3f9c02a1b7]`."""
LEAST_SCORE = 0.3
"""Presidio's certainty; below it is a lone `::`, which is an IP address only to a parser."""
_DECIMAL = re.compile(r"\d+\.\d+|\d{1,3}(,\d{3})+")


class Span(NamedTuple):
    """A passage of a text that holds personal data."""

    start: int
    end: int
    """The character after the last one."""
    kind: Kind


def check_kinds(kinds: Sequence[str], place: str = "mask_personal") -> None:
    """Refuse an unknown kind, and a missing library.

    Raises:
        WorkbenchError: one of them.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise WorkbenchError(place, f"unknown kind {kind!r}", remedy=did_you_mean(kind, KINDS))
    if kinds:
        _recognisers()


def find(text: str, kinds: Sequence[Kind] = KINDS) -> list[Span]:
    """The personal data in a text, in its order, without overlaps; masks are not searched.

    Raises:
        WorkbenchError: a library of the extra `privacy` is not installed.
    """
    masks = [match.span() for match in TOKEN.finditer(text)]
    taken: list[Span] = []
    for kind in KINDS:
        if kind in kinds and _possible(text, kind):
            found = sorted(set(_spans(text, kind)), key=lambda span: (span.start, -span.end))
            for span in found:
                used = [*masks, *((other.start, other.end) for other in taken)]
                if all(span.end <= start or span.start >= end for start, end in used):
                    taken.append(span)
    return sorted(taken)


def _possible(text: str, kind: Kind) -> bool:
    """A quick test that spares most texts the search."""
    if kind == "email":
        return "@" in text
    if kind == "ip":
        return text.count(".") >= 3 or text.count(":") >= 2
    return sum(map(str.isdigit, text)) >= _FEWEST_DIGITS.get(kind, 0)


def _spans(text: str, kind: Kind) -> Iterator[Span]:
    if kind == "name":
        for start, end in find_names(text):
            yield Span(start, end, kind)
        return
    recogniser = _recognisers()[kind]
    for found in recogniser.analyze(text, recogniser.supported_entities, None):
        value = text[found.start : found.end]
        number = kind == "phone" and (_DECIMAL.fullmatch(value) or not _possible(value, kind))
        if found.score >= LEAST_SCORE and not number:
            yield Span(found.start, found.end, kind)


@cache
def _recognisers() -> Mapping[Kind, Any]:
    try:
        from presidio_analyzer import Pattern
        from presidio_analyzer import predefined_recognizers as presidio
    except ImportError:
        raise WorkbenchError("presidio-analyzer", "is not installed", remedy=INSTALL) from None

    class EmailRecognizer(presidio.EmailRecognizer):
        """Presidio's, without its check of the domain, which fetches a list and refuses internal domains."""

        def validate_result(self, pattern_text: str) -> None:
            return None

    # Presidio's pattern lacks Mastercard's 2-series and numbers of 17 to 19 digits; the Luhn check applies to both.
    cards = [*presidio.CreditCardRecognizer.PATTERNS, Pattern("13 to 19 digits", r"\b[2-6](?:[ -]?\d){12,18}\b", 0.3)]
    makers: Mapping[Kind, Callable[[], Any]] = {
        "email": EmailRecognizer,
        "iban": presidio.IbanRecognizer,
        "card": lambda: presidio.CreditCardRecognizer(patterns=cards),
        "ip": presidio.IpRecognizer,
        "phone": presidio.PhoneRecognizer,
    }
    return {kind: make() for kind, make in makers.items()}
