"""Running out of memory, as one clear error that names the setting to lower where the memory was used up."""

import contextlib
from collections.abc import Iterator

from workbench.run.errors import WorkbenchError

SAME_STEP = "the optimizer step stays the same, since train.batch_size (ppo: train.minibatch_size) does"
SMALLER_STEP = (
    f"a smaller train.micro_batch_size ({SAME_STEP}); model.activation_checkpointing=true; a smaller data.max_length"
)
DOCTOR = "`python -m workbench doctor CONFIG` shows what takes how much and what fits"


@contextlib.contextmanager
def memory_hint(moment: str, remedy: str) -> Iterator[None]:
    """Around code, or as a decorator: what to do if memory runs out in it. The innermost hint counts.

    Args:
        moment: such as `while sampling`.
        remedy: the settings to lower, of the command that runs this code.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(error, moment, remedy) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch or Python ran out of memory."""
    torch_says = any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)  # torch may not be imported
    cpu_says = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    return torch_says or cpu_says or isinstance(error, MemoryError)


def out_of_memory(error: BaseException, moment: str = "", remedy: str = "less data at one time") -> WorkbenchError:
    """The error to show."""
    first_line = (str(error).splitlines() or [""])[0][:200]
    problem = " ".join(["is used up", moment]).strip() + (f": {first_line}" if first_line else "")
    return WorkbenchError("memory", problem, remedy=remedy)
