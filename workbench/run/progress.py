"""Progress bars with an ETA, the same in every phase."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def progress(
    iterable: Iterable[Any] | None = None,
    *,
    total: float | None = None,
    description: str = "",
    unit: str = "it",
    initial: int = 0,
    quiet: bool = False,
) -> "tqdm[Any]":
    """A bar on standard error, or a line every ten seconds if that is not a terminal. `quiet`: nothing."""
    terminal = sys.stderr.isatty()
    return tqdm(
        iterable,
        total=total,
        desc=description,
        unit=unit,
        initial=initial,
        disable=quiet,
        dynamic_ncols=terminal,
        ncols=None if terminal else 100,
        mininterval=0.2 if terminal else 10.0,
        file=sys.stderr,
    )


def duration(seconds: float | None) -> str:
    """Seconds as readable text."""
    if seconds is None:
        return "–"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
