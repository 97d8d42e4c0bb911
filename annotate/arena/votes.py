"""A vote enters the store: an item with both answers and the runs that wrote them, and its judgement, at once.

The item is ordinary and done, so that `export` makes a preference of it and nobody is given it again. Its answers are
in the order in which they were shown.
"""

import json
import time

from annotate.intake.items import fingerprint
from annotate.queue.submission import Refused, Submission, check, in_own_order
from annotate.store.database import Store
from annotate.store.statements import Annotator
from workbench.data.records import Item


def save_vote(store: Store, who: Annotator, item: Item, submission: Submission) -> bool:
    """Store a vote in one transaction; false if the same `client_key` was stored before, which changes nothing.

    Args:
        who: voted.
        item: the battle's (`annotate.campaign.battles.arena_item`): all turns, and two answers as they were shown.
        submission: choice, strength, comment, seconds and client key; its `item` is not read.

    Raises:
        Refused: the battle has a vote already, both answers are the same text, or a value is bad.
    """
    texts = [response.text for response in item.responses]
    check(submission, len(texts))
    if texts[0] == texts[1]:
        raise Refused("same_answers")
    if store.path is None and any("\x00" in text for text in (*texts, *(turn.content for turn in item.prompt))):
        raise Refused("characters", name="conversation")  # PostgreSQL cannot hold it
    now, key = time.time(), submission.client_key
    with store.write() as transaction:
        transaction.lock_annotator(who.id)
        before = transaction.judgement_by_key(key)
        if before is not None:
            if before["annotator"] != who.id:
                raise Refused("not_your_key")
            return False
        if transaction.fingerprints([item.id]):
            raise Refused("voted")
        # Not by `load_items`: it leaves out an item whose texts the store has, and here that would lose a vote.
        pk = transaction.add_items([_row(item, now)], [_answers(item)])[item.id]
        transaction.add_lease(pk, who, swapped=False, display_order=None, now=now, expires=now)
        given = transaction.assignment(pk, who.id)
        assert given is not None
        done = given._replace(state="done", revision=1)
        columns = in_own_order(submission, done, texts)
        transaction.add_judgement(item=pk, annotator=who.id, revision=1, client_key=key, created_at=now, **columns)
        transaction.put_assignment(done)
        transaction.add_done(pk, 1, simulated=who.simulated)
    return True


def _row(item: Item, now: float) -> dict[str, object]:
    return {
        "item_id": item.id,
        "group_id": item.group,
        "prompt": json.dumps([turn.model_dump() for turn in item.prompt], ensure_ascii=False),
        "kind": "ordinary",
        "priority": 0.0,
        "overlap": 1,
        "round": item.round,
        "created_at": now,
        "fingerprint": fingerprint(item.prompt, [response.text for response in item.responses]),
    }


def _answers(item: Item) -> list[dict[str, object]]:
    return [
        {"position": place, "response_id": response.id, **response.model_dump(exclude={"id"})}
        for place, response in enumerate(item.responses)
    ]
