"""What each character of a program is (comment, keyword …), by Pygments. Knows neither markdown nor page."""

from pygments.lexers import get_lexer_by_name
from pygments.token import Token

LONGEST = 4000
"""Longer code, in characters, is shown plain: the page waits for this."""
LONGEST_LINE = 300
"""Code with a longer line is shown plain: the time of some lexers grows with the square of its length."""
_NAMES = """
    bash c c# c++ cpp cs csharp css diff go golang haskell html java javascript js json julia kotlin latex lua matlab
    perl php py python python3 r rb ruby rs rust scala sh shell sql swift tex toml ts typescript xml yaml yml
"""
LANGUAGES = frozenset(_NAMES.split())
"""Names after a fence that are highlighted."""
_KINDS = (
    (Token.Comment, "comment"),
    (Token.Keyword, "keyword"),
    (Token.Operator.Word, "keyword"),
    (Token.Literal.String, "string"),
    (Token.Literal.Number, "number"),
    (Token.Name.Function, "name"),
    (Token.Name.Class, "name"),
    (Token.Name.Builtin, "name"),
    (Token.Name.Decorator, "name"),
    (Token.Name.Tag, "name"),
    (Token.Name.Attribute, "name"),
)
KINDS = frozenset(kind for _, kind in _KINDS)


def kinds_of(code: str, language: str) -> list[str]:
    """One of `KINDS` for each character, or an empty text for other characters and unknown languages."""
    kinds = [""] * len(code)
    short = len(code) <= LONGEST and max(map(len, code.split("\n"))) <= LONGEST_LINE
    if short and language in LANGUAGES:
        for start, token, text in get_lexer_by_name(language).get_tokens_unprocessed(code):
            kind = next((name for parent, name in _KINDS if token in parent), "")
            kinds[start : start + len(text)] = [kind] * len(text)
    return kinds[: len(code)]
