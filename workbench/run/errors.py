"""Errors that a user can act on: the place, the problem, what was expected, and the remedy."""

import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

ResultT = TypeVar("ResultT")


class WorkbenchError(Exception):
    """Bad input, described so that a person can mend it.

    Args:
        place: the file (with line), config key, run or address that is wrong.
        problem: what was found there, with the value.
        expected: what would have been right.
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
    """Several problems of one command, shown together, each with its remedy."""

    def __init__(self, errors: Sequence[WorkbenchError]) -> None:
        self.errors = tuple(errors)
        super().__init__(f"{len(errors)} problems", "; ".join(error.place for error in errors))

    def __str__(self) -> str:
        return "\n".join([f"{len(self.errors)} problems", *(f"- {error}" for error in self.errors)])


class Problems:
    """Collects what is wrong with a command, so that one run names all of it.

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
        """What `check` returns; None where it raises a WorkbenchError, which is kept."""
        try:
            return check(*arguments, **options)
        except SeveralErrors as several:
            new: Sequence[WorkbenchError] = several.errors
        except WorkbenchError as error:
            new = [error]
        self.errors += [error for error in new if str(error) not in map(str, self.errors)]
        return None

    def add(self, place: object, problem: str, *, expected: str | None = None, remedy: str | None = None) -> None:
        """Keep one problem, described as in `WorkbenchError`."""
        self.errors.append(WorkbenchError(place, problem, expected=expected, remedy=remedy))

    def raise_if_any(self) -> None:
        """Raise what was collected.

        Raises:
            WorkbenchError: the one problem, or all of them as `SeveralErrors`.
        """
        if self.errors:
            raise self.errors[0] if len(self.errors) == 1 else SeveralErrors(self.errors)


def check_all(check: Callable[..., object], *arguments: object, **options: object) -> None:
    """Run `check(…, problems, …)` with the problems as its second argument, and raise all it collected."""
    problems = Problems()
    check(arguments[0], problems, *arguments[1:], **options)
    problems.raise_if_any()


LIKELY = 0.75
"""Similarity (difflib's ratio, in [0, 1]) from which one name is taken for a misspelling of another."""


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `name` probably stands for, or None where none is likely.

    Case does not count. Parts that both share around dots (`train.` of keys, `.jsonl` of files) do not count either:
    they would make any two keys of a section alike.
    """
    best, found = 0.0, None
    for candidate in candidates:
        likeness = _likeness(name.lower(), candidate.lower())
        if likeness > best:
            best, found = likeness, candidate
    return found if best >= LIKELY else None


def _likeness(a: str, b: str) -> float:
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
        return 0.9  # two letters swapped, or a name cut short or continued
    return difflib.SequenceMatcher(None, a, b, autojunk=False).ratio()


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """A remedy for a misspelt name: the nearest candidate, or all of them."""
    names = list(candidates)
    close = nearest(name, names)
    return f"did you mean {close!r}?" if close else f"known names: {', '.join(sorted(names))}"


class Terminated(KeyboardInterrupt):
    """SIGTERM: what a cluster sends before it kills. Treated as Ctrl-C, with an exit code of its own."""
