"""Runs a command of the workbench as a user would type it."""

import subprocess
import sys


def command(*words: str) -> None:
    """`python -m WORDS …`, printed first.

    Raises:
        CalledProcessError: it ended with an error; its own message is above.
    """
    print("$ python -m", *words, flush=True)
    subprocess.run([sys.executable, "-m", *words], check=True)
