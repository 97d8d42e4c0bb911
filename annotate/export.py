"""Judgements become preference records. Knows the store and the record, not the page.

Resolution (`majority`): each judgement is a vote for one answer; a tie is half a vote for either. The answer with more
votes is `chosen`. `both_bad` counts as a tie; an item that at least half of its annotators call both bad is left out,
for neither answer should be learnt. Skipped items have no vote. Without a majority the item is a tie: left out, or
kept with strength 0 and weight 0 (`chosen` is then the answer that comes first by hash).
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from annotate.items import unit_hash
from annotate.statements import CurrentJudgement, StoredItem, StoredResponse
from annotate.store import Store
from workbench.data.readers import write_records
from workbench.data.records import Message, Preference
from workbench.run.errors import WorkbenchError

Who = Literal["everyone", "people", "simulated"]


@dataclass(frozen=True)
class Votes:
    """The judgements of one item, resolved."""

    chosen: int
    """Position of the preferred answer: 0 or 1; None of them where `tie`."""
    tie: bool
    both_bad: bool
    strength: float
    """Mean |strength|, 0 … 3."""
    agreement: float | None
    """Share of the votes for `chosen`; None for one judgement."""


def resolve(judgements: Sequence[CurrentJudgement]) -> Votes | None:
    """The majority of one item's judgements; None where all skipped it."""
    votes = [j for j in judgements if j.choice != "skipped"]
    if not votes:
        return None
    strengths = [j.strength or 0 for j in votes]
    for_second = sum(1.0 if s > 0 else 0.5 if s == 0 else 0.0 for s in strengths)
    share = for_second / len(votes)
    bad = sum(j.choice == "both_bad" for j in votes)
    return Votes(
        chosen=int(share > 0.5),
        tie=share == 0.5,
        both_bad=2 * bad >= len(votes),
        strength=sum(abs(s) for s in strengths) / len(votes),
        agreement=max(share, 1 - share) if len(votes) > 1 else None,
    )


def preferences(
    store: Store, *, who: Who, heldout_share: float, drop_ties: bool, seed: int
) -> tuple[list[Preference], dict[str, int]]:
    """All resolved comparisons in the order of loading, and how many items became what."""
    with store.read() as transaction:
        items, answers = transaction.items(), transaction.all_responses()
        judged: dict[int, list[CurrentJudgement]] = {}
        for judgement in transaction.current_judgements():
            if who == "everyone" or judgement.simulated == (who == "simulated"):
                judged.setdefault(judgement.item, []).append(judgement)
    records: list[Preference] = []
    counts: Counter[str] = Counter(exported=0, ties=0, both_bad=0, skipped=0, not_judged=0)
    for item in items:
        outcome, votes = _outcome(judged.get(item.id, []), drop_ties)
        counts[outcome] += 1
        if outcome == "exported":
            assert votes is not None
            names = tuple(j.annotator for j in judged[item.id] if j.choice != "skipped")
            records.append(_record(item, answers[item.id], votes, names, heldout_share, seed))
    return records, dict(counts)


def export(store: Store, out: Path, *, who: Who, heldout_share: float, drop_ties: bool, seed: int) -> dict[str, int]:
    """Write preference records to `out` (atomic) and return the counts.

    Raises:
        WorkbenchError: nothing has been judged.
    """
    records, counts = preferences(store, who=who, heldout_share=heldout_share, drop_ties=drop_ties, seed=seed)
    if not records:
        raise WorkbenchError(
            store.place,
            f"has no comparison to export ({', '.join(f'{v} {k}' for k, v in counts.items())})",
            expected=f"judgements by {who}",
            remedy="label some pairs first: python -m annotate serve CONFIG.yaml",
        )
    write_records(out, records)
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    with store.write() as transaction:
        transaction.add_event("exported", time.time(), out=str(out), sha256=digest, who=who, **counts)
    counts["heldout"] = sum(record.split == "heldout" for record in records)
    return counts


def _outcome(judgements: Sequence[CurrentJudgement], drop_ties: bool) -> tuple[str, Votes | None]:
    votes = resolve(judgements)
    if votes is None:
        return ("skipped" if judgements else "not_judged"), None
    if votes.both_bad:
        return "both_bad", votes
    if votes.tie and drop_ties:
        return "ties", votes
    return "exported", votes


def _record(
    item: StoredItem,
    answers: Sequence[StoredResponse],
    votes: Votes,
    annotators: tuple[str, ...],
    heldout_share: float,
    seed: int,
) -> Preference:
    first = int(unit_hash(seed, "tie", item.item_id) < 0.5) if votes.tie else votes.chosen
    chosen, rejected = answers[first], answers[1 - first]
    return Preference(
        id=item.item_id,
        group=item.group_id,
        prompt=tuple(Message(**message) for message in json.loads(item.prompt)),
        chosen=(Message(role="assistant", content=chosen.text),),
        rejected=(Message(role="assistant", content=rejected.text),),
        strength=0.0 if votes.tie else votes.strength,
        annotators=annotators,
        agreement=votes.agreement,
        weight=0.0 if votes.tie else 1.0,
        chosen_run=chosen.run,
        rejected_run=rejected.run,
        round=item.round,
        split="heldout" if unit_hash(seed, "split", item.group_id) < heldout_share else "train",
    )
