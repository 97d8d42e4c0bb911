"""Names of people by rules: a frame around the name, or a known first name before a surname. Knows no model.

First names are those of the person providers of Faker for `LOCALES`. The frames are English. A name without a frame
and without a known first name is missed, as is a name in lower case.
"""

import importlib
import re
from collections.abc import Iterator
from functools import cache

LOCALES = ("en_US", "en_GB", "de_DE", "fr_FR", "es_ES", "it_IT", "nl_NL", "pl_PL", "tr_TR", "en_IN")

_WORD = r"(?!I\b)[^\W\d_a-z][^\W\d_]*(?:['’](?!(?:s|m|d|ll|re|ve)\b)[^\W\d_]+|-[^\W\d_]+)*"
_PARTICLE = r"(?:van|von|de|der|den|del|della|di|da|dos|la|le|bin|al|el)"
_NAME = rf"{_WORD}(?:[ ](?:{_PARTICLE}[ ]){{0,2}}{_WORD}|[ ][A-Z]\.){{0,3}}"
_FRAMES = (
    r"\b(?:[Mm]y|[Hh]er|[Hh]is|[Tt]heir) (?:full )?name(?:'s| is) ",
    r"\b(?:[Ii] am|[Ii]'m|[Tt]his is) (?:called |named )(?=[A-Z])",
    r"\b(?:[Cc]alled|[Nn]amed|[Nn]ame:|[Ss]igned by|[Ss]igned,) ",
    r"\b(?:Mr|Mrs|Ms|Miss|Dr|Prof|Sir|Herr|Frau|Mme|Sr|Sra)\.? ",
    r"(?:^|\n)(?:Dear|Hi|Hello|Hey) (?=[^\n,!]{1,40}[,!])",
    r"(?:[Rr]egards|[Ss]incerely|[Cc]heers|[Bb]est wishes|Yours|[Tt]hanks),?\n+",
)
_FRAMED = re.compile(rf"(?:{'|'.join(_FRAMES)})(?:(?:Mr|Mrs|Ms|Miss|Dr|Prof)\.? )?({_NAME})")
_CAPITALS = re.compile(_NAME)
_NO_NAMES = frozenset(
    (
        "All",
        "Anyone",
        "Customer",
        "Doctor",
        "Everybody",
        "Everyone",
        "Family",
        "Folks",
        "Friend",
        "Friends",
        "God",
        "Guys",
        "I",
        "It",
        "Madam",
        "Manager",
        "Me",
        "Miss",
        "Mr",
        "Mrs",
        "Ms",
        "Dr",
        "Prof",
        "My",
        "Professor",
        "Sir",
        "Someone",
        "Support",
        "Team",
        "The",
        "There",
        "This",
        "You",
        "Your",
    )
)
"""Words that stand in a frame and are no names."""


def find_names(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of each name."""
    for match in _FRAMED.finditer(text):
        if match.group(1).split()[0] not in _NO_NAMES:
            yield match.span(1)
    for match in _CAPITALS.finditer(text):
        words = list(re.finditer(r"\S+", match.group()))
        known = [index for index, word in enumerate(words[:-1]) if word.group() in _first_names()]
        if known:
            yield match.start() + words[known[0]].start(), match.end()


@cache
def _first_names() -> frozenset[str]:
    """First names of `LOCALES`.

    Raises:
        WorkbenchError: Faker is not installed.
    """
    names: set[str] = set()
    for locale in LOCALES:
        provider = importlib.import_module(f"faker.providers.person.{locale}").Provider
        for group in ("first_names", "first_names_male", "first_names_female"):
            names.update(getattr(provider, group, ()))
    return frozenset(names)
