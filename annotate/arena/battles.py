"""Battles: which two runs answer, on which side; and answers sealed, so that a vote is about what the runs wrote.

The server keeps no battle. The browser holds the conversation, an opaque battle id, and each answer with a seal that
only the server can make. So a battle survives a reload and a restart of the server, and nobody can send a text that no
run wrote. The runs and their sides follow from the battle id and the store's secret key: the page cannot know them.
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from workbench.data.hashing import unit_hash
from workbench.data.records import Message, prompt_id


@dataclass(frozen=True)
class Written:
    """An answer that a run wrote."""

    text: str
    ended: bool
    """Whether the model stopped by itself; false if it was stopped, or reached the largest number of tokens."""
    seal: str


class Battles:
    """Draws the runs of battles, and seals answers."""

    def __init__(self, runs: Sequence[str], *, key: str, seed: int) -> None:
        """`runs`: names, in the order of the command line; `key`: the secret of the store."""
        self.runs, self._key, self._seed = tuple(runs), key, seed

    def new(self) -> str:
        """The id of a new battle."""
        number = secrets.token_hex(12)
        return f"{number}.{self._sign('battle', number)}"

    def genuine(self, battle: str) -> bool:
        """Whether `new` has made this id, here or before a restart."""
        number, _, signature = battle.partition(".")
        return _same(signature, self._sign("battle", number))

    def sides(self, battle: str) -> tuple[int, ...]:
        """Positions of the runs that answer, left first; two different ones, drawn evenly, or the only one."""
        if len(self.runs) == 1:
            return (0,)
        pairs = [(a, b) for a in range(len(self.runs)) for b in range(len(self.runs)) if a != b]
        return pairs[int(unit_hash(self._seed, self._key, "sides", battle) * len(pairs))]

    def draw_seed(self, battle: str, prompt: Sequence[Message], side: int, attempt: int) -> int:
        """The seed of an answer's sampling (31 bits); another one for each attempt."""
        return int(unit_hash(self._seed, self._key, battle, prompt_id(prompt), str(side), str(attempt)) * 2**31)

    def seal(self, battle: str, prompt: Sequence[Message], side: int, text: str, *, ended: bool) -> Written:
        """An answer with its seal."""
        return Written(text, ended, self._sign("answer", battle, prompt_id(prompt), side, text, ended))

    def wrote(self, battle: str, prompt: Sequence[Message], side: int, answer: Written) -> bool:
        """Whether the run of this side wrote this answer to this prompt, in this battle."""
        expected = self.seal(battle, prompt, side, answer.text, ended=answer.ended)
        return _same(answer.seal, expected.seal)

    def _sign(self, *parts: object) -> str:
        message = json.dumps(["arena", *parts]).encode()
        return hmac.new(self._key.encode(), message, hashlib.sha256).hexdigest()[:32]


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), right.encode())
