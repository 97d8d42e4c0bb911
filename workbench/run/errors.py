"""Errors that the user can fix: the place, the problem, what was expected, and the remedy."""

import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

ResultT = TypeVar("ResultT")


class WorkbenchError(Exception):
    """Bad input, described so that the user can fix it.

    Args:
        place: the file (with line), configuration key, run or address.
        problem: what is wrong there, with the value.
        expected: a correct value.
        remedy: what to do now.
    """

    def __init__(self, place: object, problem: str, *, expected: str | None = None, remedy: str | None = None) -> None:
        self.place, self.problem, self.expected, self.remedy = str(place), problem, expected, remedy
        lines = [f"{self.place}: {problem}"]
        if expected:
            lines.append(f"  expected: {expected}")
        if remedy:
            lines.append(f"  remedy:   {remedy}")
        super().__init__("\n".join(lines))


class SeveralErrors(WorkbenchError):
    """Several problems of one command, shown together."""

    def __init__(self, errors: Sequence[WorkbenchError]) -> None:
        self.errors = tuple(errors)
        super().__init__(f"{len(errors)} problems", "; ".join(error.place for error in errors))

    def __str__(self) -> str:
        return "\n".join([f"{len(self.errors)} problems", *(f"- {error}" for error in self.errors)])


class Problems:
    """Collects the problems of a command, so that all are reported at once.

    ```
    problems = Problems()
    start = problems.attempt(RunFolder.open, config.model.start)
    data = problems.attempt(read_preferences, config.data.train)
    problems.raise_if_any()
    ```
    """

    def __init__(self) -> None:
        self.errors: list[WorkbenchError] = []

    def attempt(self, check: Callable[..., ResultT], *arguments: object, **options: object) -> ResultT | None:
        """The result of `check`; None if it raises a WorkbenchError, which is kept."""
        try:
            return check(*arguments, **options)
        except SeveralErrors as several:
            new: Sequence[WorkbenchError] = several.errors
        except WorkbenchError as error:
            new = [error]
        self.errors += [error for error in new if str(error) not in map(str, self.errors)]
        return None

    def add(self, place: object, problem: str, *, expected: str | None = None, remedy: str | None = None) -> None:
        """Add one problem, described as in `WorkbenchError`."""
        self.errors.append(WorkbenchError(place, problem, expected=expected, remedy=remedy))

    def raise_if_any(self) -> None:
        """Raise the collected problems.

        Raises:
            WorkbenchError: the single problem, or `SeveralErrors` with all of them.
        """
        if self.errors:
            raise self.errors[0] if len(self.errors) == 1 else SeveralErrors(self.errors)


def check_all(check: Callable[..., object], *arguments: object, **options: object) -> None:
    """Run `check` with an empty `Problems` as its second argument, and raise all that it collects."""
    problems = Problems()
    check(arguments[0], problems, *arguments[1:], **options)
    problems.raise_if_any()


LIKELY = 0.75
"""Similarity (difflib's ratio, in [0, 1]) above which one name counts as a misspelling of another."""


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `name` is probably a misspelling of, or None.

    Case is ignored. So are the parts that both names share around dots (`train.` in keys, `.jsonl` in files), which
    would make any two keys of a section similar.
    """
    best, found = 0.0, None
    for candidate in candidates:
        similarity = _similarity(name.lower(), candidate.lower())
        if similarity > best:
            best, found = similarity, candidate
    return found if best >= LIKELY else None


def _similarity(a: str, b: str) -> float:
    if a == b:
        return 1.0
    first, second = a.split("."), b.split(".")
    while len(first) > 1 and len(second) > 1 and first[-1] == second[-1]:
        first, second = first[:-1], second[:-1]
    while len(first) > 1 and len(second) > 1 and first[0] == second[0]:
        first, second = first[1:], second[1:]
    a, b = ".".join(first), ".".join(second)
    shorter, longer = sorted((a, b), key=len)
    if len(shorter) < 2:
        return 0.0
    if sorted(a) == sorted(b) or (len(shorter) >= 4 and longer.startswith(shorter)):
        return 0.9  # two letters swapped, or a name that is cut off or continued
    return difflib.SequenceMatcher(None, a, b, autojunk=False).ratio()


MOST_NAMES = 20
"""Known names that a remedy lists."""


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """The remedy for a misspelt name: the nearest candidate, or the first ones of all; empty if there are none."""
    names = sorted(candidates)
    if not names:
        return ""
    close = nearest(name, names)
    if close:
        return f"did you mean {close!r}?"
    more = f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
    return f"known names: {', '.join(names[:MOST_NAMES])}{more}"


class Terminated(KeyboardInterrupt):
    """SIGTERM, which clusters send before they kill. Handled like Ctrl-C, with its own exit code."""


def terminate(*_: object) -> None:
    """A handler of SIGTERM.

    Raises:
        Terminated: always.
    """
    raise Terminated
