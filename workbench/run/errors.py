"""Errors that a person can act on: where, what was found, what was expected, what to do.

Every script ends through `run_main`: such an error prints as a few lines and exits with code 2, without a
traceback. Anything else is a defect of the workbench and keeps its traceback.
"""

import difflib
import errno
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import NoReturn


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


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate most like `name`, or None where none is alike."""
    close = difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.5)
    return close[0] if close else None


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """A remedy for a misspelt name: the nearest candidate, or all of them."""
    names = list(candidates)
    close = nearest(name, names)
    return f"did you mean {close!r}?" if close else f"known names: {', '.join(sorted(names))}"


SMALLER = "the optimizer step stays the same, since train.batch_size (ppo: train.minibatch_size) does"
KNOBS = (
    ("workbench/model/base.py", "while loading the base", "model.quantise=nf4, or a device with more free memory"),
    (
        "workbench/model/generate.py",
        "while sampling",
        "fewer answers at one time: a smaller rollout.micro_batch_size (ppo), normalise.batch_size (reward), "
        "sample.prompts (sft) or --batch-size (evaluate); or fewer max_new_tokens",
    ),
    ("workbench/model/twin.py", "while merging the policy", "rollout.engine=transformers, which needs no merged copy"),
    ("ppo/engines.py", "while sampling", "a smaller rollout.micro_batch_size, or rollout.engine=transformers"),
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
    moment, knob = next(
        ((moment, knob) for file in reversed(files) for place, moment, knob in KNOBS if file.endswith(place)),
        ("", "a smaller train.micro_batch_size or rollout.micro_batch_size; model.activation_checkpointing=true"),
    )
    first_line = (str(error).splitlines() or [""])[0][:200]
    return WorkbenchError(
        "memory",
        " ".join(["is used up", moment]).strip() + (f": {first_line}" if first_line else ""),
        remedy=f"{knob}. `python -m workbench doctor CONFIG` shows what takes how much and what fits",
    )


def run_main(main: Callable[[list[str]], int | None], argv: list[str] | None = None) -> NoReturn:
    """Run a script's `main` and turn errors a person can mend into exit code 2."""
    try:
        code = main(sys.argv[1:] if argv is None else argv)
    except WorkbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("interrupted: start the same command with --resume to go on", file=sys.stderr)
        code = 130
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(
            f"error: {error.filename or 'disk'}: no space left on the device\n"
            "  remedy:   free some space, then start the same command with --resume; "
            "the last complete checkpoint is untouched",
            file=sys.stderr,
        )
        code = 2
    except Exception as error:
        explained = out_of_memory_explained(error)
        if explained is None:
            raise
        print(f"error: {explained}", file=sys.stderr)
        code = 2
    raise SystemExit(code or 0)
