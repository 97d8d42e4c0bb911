"""How far an annotator is. Counts of very many open items are shared between requests for some seconds."""

import json
import statistics
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from annotate.store.statements import Annotator, Transaction

EXACT = 2000
"""Up to this number of open items, they are counted for each request."""
SECONDS = 5.0
"""Above it, for this long: counting 100 000 open items takes longer than storing an answer."""
_PACE_OVER = 50
"""Number of newest judgements that an annotator's pace is computed from."""


_ROUND = "round"


@dataclass(frozen=True)
class RoundProgress:
    """How far the labels of a loop's round are."""

    number: int
    rounds: int
    """Rounds in all."""
    to_go: int
    """Pairs that the round still needs; 0: the machine trains, and further labels count for the next round."""


@dataclass(frozen=True)
class Progress:
    """An annotator's progress."""

    mine: int
    """Items judged."""
    open_for_me: int
    """Open items that this annotator has neither judged nor skipped; with more than `EXACT` open items, as of at most
    `SECONDS` ago."""
    seconds_each: float | None
    """Median time of the annotator's newest judgements; None without any."""
    round: RoundProgress | None = None
    """That of a loop's round, if the store belongs to a loop."""


def put_round(transaction: Transaction, number: int, *, rounds: int, labels: int) -> None:
    """Note which round people label for, and how many pairs it needs."""
    transaction.put_setting(_ROUND, json.dumps({"number": number, "rounds": rounds, "labels": labels}))


def round_progress(transaction: Transaction) -> RoundProgress | None:
    """The progress of the round that was noted last; None if the store belongs to no loop."""
    noted = transaction.setting(_ROUND)
    if noted is None:
        return None
    current: dict[str, int] = json.loads(noted)
    done = transaction.labelled_of_round(current["number"])
    return RoundProgress(current["number"], current["rounds"], max(0, current["labels"] - done))


class OpenItems:
    """Counts of open items, for one store."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._one_counts = clock, threading.Lock()
        self._counted: dict[Hashable, tuple[float, int]] = {}
        """What was counted → when the count is too old, and the count."""

    def progress(self, transaction: Transaction, who: Annotator) -> Progress:
        """The annotator's progress."""
        mine, seconds = transaction.judged_and_recent(who.id, _PACE_OVER)
        unfinished = self._recent(who.simulated, lambda: transaction.unfinished(simulated=who.simulated))
        had = self._recent((who.simulated, who.id), lambda: transaction.unfinished_had(who), keep=unfinished > EXACT)
        pace = statistics.median(seconds) if seconds else None
        return Progress(mine, max(0, unfinished - had), pace, round_progress(transaction))

    def _recent(self, what: Hashable, count: Callable[[], int], *, keep: bool = False) -> int:
        """A count, made now unless it was made in the last seconds; kept if asked for or if it is large."""
        with self._one_counts:  # the requests that come meanwhile wait for its count instead of making their own
            until, known = self._counted.get(what, (0.0, 0))
            if until > self._clock():
                return known
            found = count()
            if keep or found > EXACT:
                self._counted[what] = self._clock() + SECONDS, found
            return found
