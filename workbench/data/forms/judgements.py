"""Which of two answers is better, or how good one is, in the notations of public files."""

from collections.abc import Mapping
from typing import Any

from workbench.data.files.row import Row
from workbench.data.forms.example import Vote
from workbench.data.forms.fields import number_of, short

SIGNED = ("overall_preference", "preference_strength")
"""Numbers below 0 for the first answer, above 0 for the second, 0 for a tie (HelpSteer)."""
WINNERS = (
    *("winner", "preference", "preferred", "preferred_response", "better", "better_response", "better_response_id"),
    *("comparison", "choice", "verdict", "judgement", "judgment", "label", "chosen", "preference.responses"),
)
"""Columns that name the better answer, or a tie."""
BAD = ("tie_(bothbad)", "tie_(both_bad)", "bothbad", "both_bad", "tie_bothbad", "neither")
"""Values that call both answers bad; in a record they are ties."""
TIES = ("tie", "ties", "tied", "both", "equal", "draw", "same", "no_preference", *BAD)
RATINGS = ("helpfulness", "overall_score", "rating", "score", "reward")
"""Columns that rate one answer by a number, higher is better; if a row has several, the first counts."""
LABELS = ("label", "kto_tag")
"""Columns that mark one answer as good or bad (KTO)."""
_YES, _NO = ("true", "1", "1.0", "yes", "good", "desirable"), ("false", "0", "0.0", "no", "bad", "undesirable")


def _normal(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip().lower().replace(" ", "_").replace("-", "_")


def _one_hot(suffixes: tuple[str, str]) -> tuple[str, str, str]:
    first, second = suffixes
    return f"winner_model{first}", f"winner_model{second}", "winner_tie"


def runs_of(row: Row, suffixes: tuple[str, str]) -> tuple[str, ...]:
    """The models behind two answers (`model_a`, `model_b`), if the row names one."""
    runs = tuple(str(row.fields.get(f"model{suffix}", "")) for suffix in suffixes)
    return runs if any(runs) else ()


def judged_by(row: Row, suffixes: tuple[str, str]) -> tuple[str, ...]:
    """The columns that say which of two answers is better; if a row has several notations, the first counts."""
    rated = ((f"{name}{suffixes[0]}", f"{name}{suffixes[1]}") for name in ("score", "rating"))
    notations = (_one_hot(suffixes), *((name,) for name in SIGNED), *((name,) for name in WINNERS), *rated)
    given = {name for name, value in row.fields.items() if not (isinstance(value, str) and not value.strip())}
    return next((names for names in notations if given.issuperset(names)), ())


def strength_of(row: Row, columns: tuple[str, str], suffixes: tuple[str, str]) -> float | None:
    """Above 0 if the first answer is better, below 0 if the second is, 0 for a tie; None: the row does not say.

    Args:
        row: with the two answers.
        columns: the columns of the two answers.
        suffixes: of these columns and of those about the two answers, such as `_a` and `_b`.
    """
    names = judged_by(row, suffixes)
    if not names:
        return None
    if len(names) == 3:
        first, second, tie = (number_of(row, name) for name in names)
        if sorted((first, second, tie)) != [0, 0, 1] and (first, second, tie) != (0, 0, 0):
            raise row.fail(f"{', '.join(names)} are {first:g}, {second:g}, {tie:g}", expected="one 1 among them")
        return first - second
    if names[0] in SIGNED:
        return -number_of(row, names[0])
    if len(names) == 2:
        gap = number_of(row, names[0]) - number_of(row, names[1])
        return float((gap > 0) - (gap < 0))
    value, known = row.fields[names[0]], _names_of(row, columns, suffixes)
    if not isinstance(value, list | tuple):
        return side_of(row, names[0], value, known)
    votes = [entry.get("value") if isinstance(entry, Mapping) else entry for entry in value]  # Argilla: per annotator
    total = sum(side_of(row, names[0], vote, known) for vote in votes)
    return float((total > 0) - (total < 0)) if votes else None


ANNOTATORS = ("annotator", "annotator_id", "annotator_name", "judge", "judge_hash", "user_id", "worker_id", "rater")
"""Columns that name who judged the answers of a row."""


def votes_of(row: Row, strength: float | None, suffixes: tuple[str, str]) -> tuple[Vote, ...]:
    """The judgement of a row with the person who made it, if the row names them."""
    given = (row.fields.get(name) for name in ANNOTATORS)
    who = next((str(name).strip() for name in given if isinstance(name, str | int) and str(name).strip()), "")
    return (Vote(strength, who, both_bad(row, suffixes)),) if who and strength is not None else ()


def both_bad(row: Row, suffixes: tuple[str, str]) -> bool:
    """Whether the row's judgement calls both answers bad."""
    names = judged_by(row, suffixes)
    return len(names) == 1 and calls_both_bad(row.fields[names[0]])


def calls_both_bad(value: object) -> bool:
    """Whether a judgement calls both answers bad."""
    return _normal(value) in BAD


def _names_of(row: Row, columns: tuple[str, str], suffixes: tuple[str, str]) -> tuple[set[str], set[str]]:
    """The names that each of the two answers may have in a judgement."""
    first, second = (
        {
            _normal(column),
            _normal(suffix.strip("_")),
            _normal(f"model{suffix}"),
            _normal(f"response{suffix}"),
            side,
            nth,
        }
        | ({_normal(row.fields[f"model{suffix}"])} if f"model{suffix}" in row.fields else set())
        for column, suffix, side, nth in zip(columns, suffixes, ("left", "right"), ("first", "second"), strict=True)
    )
    return first - second, second - first


def side_of(row: Row, name: str, value: Any, names: tuple[set[str], set[str]]) -> float:
    """1 if a value names the first answer, -1 for the second, 0 for a tie."""
    named = _normal(value)
    if named in names[0]:
        return 1.0
    if named in names[1]:
        return -1.0
    if named in TIES:
        return 0.0
    known = [*sorted(names[0]), *sorted(names[1]), "tie"]
    raise row.fail(f"{name!r} is {short(value)}, which names neither answer", expected=", ".join(known))


def rating_of(row: Row) -> float | None:
    """The number that rates a row's one answer."""
    name = rated_by(row)
    return number_of(row, name) if name else None


def rated_by(row: Row) -> str | None:
    """The column that rates a row's one answer."""
    return next((name for name in RATINGS if name in row.fields), None)


def labelled_by(row: Row) -> str | None:
    """The column that marks a row's one answer as good or bad."""
    return next((name for name in LABELS if name in row.fields), None)


def good_of(row: Row) -> bool | None:
    """Whether a row's one answer is marked as good."""
    name = labelled_by(row)
    if name is None:
        return None
    marked = _normal(row.fields[name])
    if marked in _YES or marked in _NO:
        return marked in _YES
    raise row.fail(
        f"{name!r} is {short(row.fields[name])}",
        expected="true or false: whether the answer is good",
        remedy=f"data.ignore=[{name}] skips the column",
    )


def listed_rating(entry: Mapping[str, Any]) -> float | None:
    """The rating of an entry in a list of answers; ranks count from 1, the best."""
    for name, sign in (("rank", -1), ("overall_score", 1), ("rating", 1), ("score", 1)):
        value = entry.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return sign * float(value)
    return None
