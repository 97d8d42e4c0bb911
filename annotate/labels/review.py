"""A reviewer's ruling on an item, and messages to its annotators: checked, stored, and noted in the audit trail."""

import json
import time
from collections.abc import Sequence

from annotate.store.database import Store
from annotate.store.statements import Annotator
from workbench.run.errors import WorkbenchError

VERDICTS = ("compared", "ranked", "both_bad", "left_out", "withdrawn")
"""`left_out`: must not be learnt; `withdrawn`: the annotators' judgements count again."""
MOST_COMMENT_CHARACTERS = 2000


def adjudicate(
    store: Store,
    who: Annotator,
    item: int,
    choice: str,
    *,
    strength: int | None = None,
    ranking: Sequence[int] | None = None,
    comment: str | None = None,
) -> None:
    """Store a reviewer's ruling; the newest one wins over the annotators in exports.

    Args:
        item: key of the item in the store.
        strength: with `compared`: −3 (first answer much better) … 3, in the order of the item's answers.
        ranking: with `ranked`: a rank per answer, 1 is best, equal answers share one.

    Raises:
        WorkbenchError: no such item, or a verdict that does not fit it.
    """
    now, place = time.time(), f"item {item}"
    with store.write() as transaction:
        if transaction.item(item, simulated=False) is None:
            raise WorkbenchError(place, "is not in the label store")
        answers = transaction.count_responses(item)
        if choice not in VERDICTS:
            raise WorkbenchError(place, f"unknown verdict {choice!r}", expected=f"one of {', '.join(VERDICTS)}")
        if (choice == "compared") != (strength is not None) or (choice == "compared" and answers != 2):
            raise WorkbenchError(place, f"verdict {choice} with strength {strength} on {answers} answers")
        if strength is not None and not -3 <= strength <= 3:
            raise WorkbenchError(place, f"strength {strength}", expected="-3 … 3")
        _check_ranking(place, choice, ranking, answers)
        transaction.add_adjudication(
            item=item,
            choice=choice,
            strength=strength,
            ranking=None if ranking is None else json.dumps(list(ranking)),
            comment=(comment or "").strip()[:MOST_COMMENT_CHARACTERS] or None,
            adjudicator=who.id,
            created_at=now,
        )
        transaction.add_event("adjudicated", now, who.id, item=item, choice=choice)


def _check_ranking(place: str, choice: str, ranking: Sequence[int] | None, answers: int) -> None:
    if (choice == "ranked") != (ranking is not None):
        raise WorkbenchError(place, f"verdict {choice} with ranking {ranking}")
    if ranking is None:
        return
    if len(ranking) != answers or answers == 2 or min(ranking) != 1 or max(ranking) > answers:
        raise WorkbenchError(
            place, f"ranking {list(ranking)} of {answers} answers", expected="a rank per answer, starting at 1 (best)"
        )


def send_reply(store: Store, who: Annotator, item: int, name: str, text: str) -> None:
    """Store a reviewer's message to an annotator about their judgement of an item.

    Raises:
        WorkbenchError: nothing is said, or there is no such annotator, or they have not judged the item.
    """
    text, place = text.strip(), f"item {item}"
    if not 0 < len(text) <= MOST_COMMENT_CHARACTERS:
        problem = f"a message of {len(text):,} characters" if text else "an empty message"
        raise WorkbenchError(place, problem, expected=f"1 to {MOST_COMMENT_CHARACTERS:,} characters")
    with store.write() as transaction:
        addressee = transaction.annotator(name)
        if addressee is None:
            raise WorkbenchError(place, f"there is no annotator {name!r}")
        given = transaction.assignment(item, addressee.id)
        if given is None or given.revision == 0:
            raise WorkbenchError(place, f"{name!r} has not judged it")
        transaction.add_reply(item=item, annotator=addressee.id, author=who.id, text=text, created_at=time.time())
        transaction.add_event("replied", time.time(), who.id, item=item, to=name)
