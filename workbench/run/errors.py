"""Errors that a user can act on: the place, the problem, what was expected, and the remedy."""

import difflib
import traceback
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


SMALLER = "the optimizer step stays the same, since train.batch_size (ppo: train.minibatch_size) does"
KNOBS = (
    ("annotate/intake/load.py", "while loading a file", "split the file, and load one part after another"),
    ("annotate/web/manage.py", "while loading items", "send fewer items in one request"),
    ("workbench/model/base.py", "while loading the base", "model.quantise=nf4, or a device with more free memory"),
    (
        "workbench/model/generate.py",
        "while sampling",
        "fewer answers at one time: a smaller rollout.micro_batch_size (ppo), normalise.batch_size (reward), "
        "sample.prompts (sft) or --batch-size (evaluate); or fewer max_new_tokens",
    ),
    ("ppo/sampler.py", "while sampling", "a smaller rollout.micro_batch_size, or rollout.engine=transformers"),
    ("ppo/rollout.py", "while the roles read the answers", "a smaller rollout.micro_batch_size"),
    (
        "ppo/update.py",
        "in a PPO update",
        f"a smaller train.micro_batch_size ({SMALLER}); model.activation_checkpointing=true",
    ),
    ("workbench/model/score.py", "while scoring", "a smaller normalise.batch_size (reward) or --batch-size (evaluate)"),
    (
        "transformers/trainer.py",
        "in a training step",
        f"a smaller train.micro_batch_size ({SMALLER}); model.activation_checkpointing=true; a smaller data.max_length",
    ),
)
"""Source file → what happens in it, and what to turn when memory ends there; the innermost one counts."""


def out_of_memory_explained(error: BaseException) -> WorkbenchError | None:
    """The error to show where torch or Python ran out of memory, naming what to turn; None for any other error."""
    torch_says = any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)
    cpu_says = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    if not (torch_says or cpu_says or isinstance(error, MemoryError)):
        return None
    files = [frame.filename.replace("\\", "/") for frame in traceback.extract_tb(error.__traceback__)]
    place, moment, knob = next(
        (known for file in reversed(files) for known in KNOBS if file.endswith(known[0])),
        ("", "", "a smaller train.micro_batch_size or rollout.micro_batch_size; model.activation_checkpointing=true"),
    )
    first_line = (str(error).splitlines() or [""])[0][:200]
    return WorkbenchError(
        "memory",
        " ".join(["is used up", moment]).strip() + (f": {first_line}" if first_line else ""),
        # The doctor knows models; in `annotate` it is the user's file that is too large.
        remedy=knob
        if place.startswith("annotate/")
        else f"{knob}. `python -m workbench doctor CONFIG` shows what takes how much and what fits",
    )


class Terminated(KeyboardInterrupt):
    """SIGTERM: what a cluster sends before it kills. Treated as Ctrl-C, with an exit code of its own."""
