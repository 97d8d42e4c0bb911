"""What a server and the process with the models say to each other: one JSON object per line."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Said = Callable[[dict[str, Any]], None]
"""Receives what the worker says of a job: `keep` and `add` (a piece: the first `keep` characters so far, and what
follows), `text` and `ended` (the whole answer; the last of a job; with `usage`, its numbers of tokens, once it has
begun), `scores` (the last of a job), or `error` (the last of a job; with `too_long` if the prompt has too many
tokens)."""


@dataclass(frozen=True)
class Ask:
    """An answer that is asked for."""

    job: int
    run: int
    """Position of the run on the command line."""
    prompt: list[dict[str, str]] | str
    """Messages, the last one of the user; or a text to continue, without the chat template."""
    max_new_tokens: int
    temperature: float
    """0: the most likely tokens."""
    seed: int
    stop: Sequence[str] = ()
    """Texts that end the answer, and are not part of it."""


@dataclass(frozen=True)
class Score:
    """Scores that are asked for: of the last message of each conversation, which is the assistant's."""

    job: int
    run: int
    """Position of a reward run on the command line."""
    conversations: list[list[dict[str, str]]]
