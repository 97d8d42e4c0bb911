"""A reward run's scores of every answer of a campaign, kept in the store's audit trail. Only scoring imports torch."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scipy.special import expit

from annotate.campaign.start import started_campaigns
from annotate.store.database import Store
from annotate.store.statements import StoredItem, StoredResponse, Transaction
from workbench.data.records import Message
from workbench.run.errors import WorkbenchError, did_you_mean
from workbench.run.out_of_memory import memory_hint
from workbench.run.progress import progress

EVENT = "campaign scored"
_BATCH = 32
_PART = 256
"""Answers between two updates of the progress bar."""


@memory_hint("while scoring", "a smaller campaign")
def score_campaign(store: Store, name: str, run: str) -> int:
    """Score all answers of a campaign with a finished reward run; returns the number of scored items.

    The newest scores of a campaign are used by its report.

    Raises:
        WorkbenchError: there is no such campaign, or no such reward run.
    """
    from workbench.evaluate.role_models import RoleScore, reward_roles
    from workbench.model.open import open_runs

    with store.read() as transaction:
        started = started_campaigns(transaction)
        items = [item for item in transaction.items(kind="ordinary") if item.campaign == name]
        responses = transaction.all_responses()
    if name not in started:
        raise WorkbenchError(
            f"campaign {name}", f"no such campaign in {store.place}", remedy=did_you_mean(name, started)
        )
    roles = reward_roles(Path(run))
    score = RoleScore(open_runs(roles), tuple(roles), _BATCH)
    found = _scores(items, responses, score)
    with store.write() as transaction:
        transaction.add_event(EVENT, time.time(), name=name, run=run, scores=found)
    return len(found)


def _scores(
    items: Sequence[StoredItem], responses: Mapping[int, Sequence[StoredResponse]], score: Any
) -> dict[str, list[float]]:
    """Item id → the score of each answer, in the order of the item's answers."""
    rows = [
        (item.item_id, [Message(**message) for message in json.loads(item.prompt)], response)
        for item in items
        for response in responses[item.id]
    ]
    found: dict[str, list[float]] = {}
    with progress(total=len(rows), description="score", unit="answer") as bar:
        for start in range(0, len(rows), _PART):
            part = rows[start : start + _PART]
            values = score([row[1] for row in part], [row[2].text for row in part], [row[2].ended for row in part])
            for (item_id, _, _), value in zip(part, values, strict=True):
                found.setdefault(item_id, []).append(float(value))
            bar.update(len(part))
    return found


def newest_scores(transaction: Transaction, name: str) -> tuple[str, dict[str, list[float]]] | None:
    """The reward run and the scores of a campaign; None if it was not scored."""
    details = [event["detail"] for event in transaction.events() if event["kind"] == EVENT]
    own = [detail for detail in details if detail["name"] == name]
    return (own[-1]["run"], own[-1]["scores"]) if own else None


def predictions(
    own: int, other: int, kept: Mapping[str, Sequence[int | None]], scores: Mapping[tuple[str, int], float]
) -> dict[str, float]:
    """Per prompt that both runs answered, the predicted outcome σ(own score − other score); ½ for equal answers.

    Args:
        own, other: positions of two runs.
        kept: per prompt the position of each run's answer.
        scores: (prompt, position) → score.
    """
    found = {}
    for prompt, texts in kept.items():
        mine, theirs = texts[own], texts[other]
        if mine is None or theirs is None:
            continue
        if mine == theirs:
            found[prompt] = 0.5
        elif (prompt, mine) in scores and (prompt, theirs) in scores:
            found[prompt] = float(expit(scores[prompt, mine] - scores[prompt, theirs]))
    return found
