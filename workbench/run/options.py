"""Numbers on a command line: types for argparse that take the values which an option can use, and no others."""

import argparse
import math


def positive_int(text: str) -> int:
    """An integer above 0."""
    return _integer(text, 1, "a positive integer")


def count(text: str) -> int:
    """An integer from 0 on: an amount that may be none, or a seed."""
    return _integer(text, 0, "an integer from 0 on")


def port(text: str) -> int:
    """A TCP port."""
    number = _integer(text, 1, "a port from 1 to 65535")
    if number > 65535:
        raise _wrong(text, "a port from 1 to 65535")
    return number


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


def _integer(text: str, least: int, expected: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise _wrong(text, expected) from None
    if number < least:
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
