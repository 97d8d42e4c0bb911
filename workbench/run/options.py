"""Numbers on a command line: types for argparse that take the values which an option can use, and no others."""

import argparse
import math

MOST_SEED = 2**32 - 2
"""Every generator takes a seed of 32 bits, and some steps take the seed plus one."""


def positive_int(text: str) -> int:
    """An integer above 0."""
    return _integer(text, 1, "a positive integer")


def count(text: str) -> int:
    """An integer from 0 on: an amount that may be none."""
    return _integer(text, 0, "an integer from 0 on")


def seed(text: str) -> int:
    """A seed."""
    return _integer(text, 0, f"an integer from 0 to {MOST_SEED}", MOST_SEED)


def port(text: str) -> int:
    """A TCP port."""
    return _integer(text, 1, "a port from 1 to 65535", 65535)


def positive_number(text: str) -> float:
    """A finite number above 0."""
    number = _number(text)
    if not 0 < number < math.inf:
        raise _wrong(text, "a positive number")
    return number


def share(text: str) -> float:
    """A number from 0 to 1."""
    number = _number(text)
    if not 0 <= number <= 1:
        raise _wrong(text, "a number from 0 to 1")
    return number


def _integer(text: str, least: int, expected: str, most: float = math.inf) -> int:
    try:
        number = int(text)
    except ValueError:
        raise _wrong(text, expected) from None
    if not least <= number <= most:
        raise _wrong(text, expected)
    return number


def _number(text: str) -> float:
    """The number; NaN, which no limit admits, if the text is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _wrong(text: str, expected: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"{text!r} must be {expected}")
