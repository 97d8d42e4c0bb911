"""Names of accounts: which are allowed, and which look the same."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable

ALLOWED = "1 to 64 letters or digits of any script, and after the first also . _ @ -"


def normal(name: str) -> str:
    """A name as it is stored and looked up: composed (NFC), so that é is one character however it was typed."""
    return unicodedata.normalize("NFC", name)


def fold(name: str) -> str:
    """A key that is equal for names that look the same: it ignores case and width."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKC", name).casefold())


def allowed(name: str) -> bool:
    """Whether a name in its normal form is allowed."""
    kinds = [unicodedata.category(character)[0] for character in name]  # L letter, M mark of a letter, N digit
    rest = zip(name[1:], kinds[1:], strict=True)
    return 1 <= len(name) <= 64 and kinds[0] in "LN" and all(k in "LMN" or c in "._@-" for c, k in rest)


def twins(names: Iterable[str]) -> list[list[str]]:
    """Groups of two or more names with the same `fold`."""
    same: dict[str, list[str]] = defaultdict(list)
    for name in names:
        same[fold(name)].append(name)
    return [sorted(group) for group in same.values() if len(group) > 1]
