"""An annotator's own judgements, and what reviewers said of them."""

import itertools
import json
from dataclasses import dataclass
from typing import Any, Literal

from annotate.queue.submission import Refused
from annotate.store.database import Store
from annotate.store.statements import Adjudication, Annotator, GivenJudgement

Show = Literal["", "overruled", "replied", "starred", "flagged", "commented", "skipped"]
"""Filters. `overruled`: a reviewer decided otherwise; `replied`: a reviewer wrote a message."""


@dataclass(frozen=True)
class News:
    """What reviewers said of an annotator's judgements."""

    overruled: int
    """Judgements that a reviewer decided otherwise."""
    replied: int
    """Judgements that a reviewer wrote a message about."""
    latest: float
    """Time of the newest of these decisions and messages, in seconds since 1970; 0 if there is none."""


def past(
    store: Store, who: Annotator, *, limit: int = 20, before: float | None = None, show: Show = "", search: str = ""
) -> list[GivenJudgement]:
    """The annotator's own judgements, newest first, with rulings and replies.

    Args:
        before: only those made before that time, for the page after the one that ends there.
        show: a filter; `starred` begins with the starred items that are not answered (`choice` "open").
        search: only items with this text in the prompt, an answer or the comment.
    """
    search = search.strip()
    with store.read() as transaction:
        found: list[GivenJudgement] = []
        if show == "starred" and before is None:
            found = transaction.put_aside(who.id, search=search)
        if show == "overruled":
            ruled = transaction.history(who.id, limit=None, before=before, only="ruled", search=search)
            found += itertools.islice(filter(overruled, ruled), limit)
        else:
            found += transaction.history(who.id, limit=limit, before=before, only=show, search=search)
        told = transaction.replies(to=who.id, items=[line.item for line in found])
    return [line._replace(replies=tuple(reply for reply in told if reply.item == line.item)) for line in found]


def news(store: Store, who: Annotator) -> News:
    """What reviewers said of the annotator's judgements."""
    with store.read() as transaction:
        otherwise = [line for line in transaction.history(who.id, limit=None, only="ruled") if overruled(line)]
        replies = transaction.replies(to=who.id)
    times = [line.ruling.created_at for line in otherwise if line.ruling] + [reply.created_at for reply in replies]
    return News(len(otherwise), len({reply.item for reply in replies}), max(times, default=0.0))


def star(store: Store, who: Annotator, item_pk: int, starred: bool) -> None:
    """Star an item that this annotator was given, or end that.

    Raises:
        Refused: it was never given to them.
    """
    with store.write() as transaction:
        if not transaction.star(item_pk, who.id, starred):
            raise Refused("not_given")


def overruled(line: GivenJudgement) -> bool:
    """Whether a reviewer decided otherwise: for the other side, a tie instead of a side, or the other way round.

    A different strength on the same side is not otherwise. A skipped item, and a ruling to leave the item out, say
    nothing of each other.
    """
    if line.ruling is None or line.choice == "skipped" or line.ruling.choice == "left_out":
        return False
    return _sides(line) != _sides(line.ruling)


def _sides(said: GivenJudgement | Adjudication) -> tuple[str | int, ...]:
    """The preferred side of each comparison: -1 first, 0 tie, 1 second."""
    if said.choice == "ranked" and said.ranking:
        ranks = json.loads(said.ranking)
        return tuple((a > b) - (a < b) for a, b in itertools.combinations(ranks, 2))
    if said.choice == "compared" and said.strength is not None:
        return ((said.strength > 0) - (said.strength < 0),)
    return (said.choice,)


def told(line: GivenJudgement) -> dict[str, Any]:
    """A line as its annotator is told of it: every value in the order in which they saw the answers."""
    ruling = line.ruling
    return {
        "item": line.item,
        "prompt": line.last_message,
        "at": line.created_at,
        **_as_shown(line, line),
        "flag": line.flag,
        "comment": line.comment or line.reason,
        "starred": line.starred,
        "overruled": overruled(line),
        "ruling": None
        if ruling is None
        else {**_as_shown(ruling, line), "comment": ruling.comment, "by": ruling.adjudicator},
        "replies": [{"by": reply.author, "text": reply.text, "at": reply.created_at} for reply in line.replies],
    }


def _as_shown(said: GivenJudgement | Adjudication, line: GivenJudgement) -> dict[str, Any]:
    strength, ranking = said.strength, json.loads(said.ranking) if said.ranking else None
    order = json.loads(line.display_order) if line.display_order else None
    return {
        "choice": said.choice,
        "strength": -strength if strength is not None and line.swapped else strength,
        "ranking": [ranking[position] for position in order] if ranking and order else ranking,
    }
