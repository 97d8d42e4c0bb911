"""A campaign compares runs blind: the same held-out prompts, every two runs side by side, judged on the same page.

`start` puts the comparisons into the store; what people said of them is `annotate.campaign.report`'s. Two runs with the
same answer to a prompt tie there without being asked.
"""

import hashlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from annotate.intake.items import load_items
from annotate.store.database import Store
from annotate.store.statements import Transaction
from workbench.data.hashing import unit_hash
from workbench.data.records import Item, Prompt, Response
from workbench.run.errors import WorkbenchError

Answerer = Callable[[str, Sequence[Prompt]], Sequence[str]]
"""The answers of one run, by its name, to prompts."""
EVENT = "campaign started"


@dataclass(frozen=True)
class Started:
    """What `start` did."""

    comparisons: int
    identical: int
    prompts: int


def start(
    store: Store,
    name: str,
    runs: Sequence[str],
    prompts: Sequence[Prompt],
    answers: Answerer,
    *,
    overlap: int = 1,
    priority: float = 0,
    seed: int = 0,
) -> Started:
    """Answer the prompts with every run and put the comparisons into the store.

    Raises:
        WorkbenchError: fewer than two runs, one twice, no prompt, or a campaign of this name that was started before.
    """
    _check(store, name, runs, prompts)
    texts = {run: answers(run, prompts) for run in runs}
    items: list[Item] = []
    kept: dict[str, list[int]] = {}
    identical = 0
    for place, prompt in enumerate(prompts):
        own = [texts[run][place] for run in runs]
        different = list(dict.fromkeys(own))
        kept[prompt.id] = [different.index(text) for text in own]
        identical += sum(a == b for a, b in itertools.combinations(own, 2))
        items += _items(name, prompt, different, seed)
    load_items(store, items, overlap=overlap, overlap_share=1, priority=priority, place=name, campaign=name)
    with store.write() as transaction:
        transaction.add_event(EVENT, time.time(), name=name, runs=list(runs), answers=kept)
    return Started(len(items), identical, len(prompts))


def _check(store: Store, name: str, runs: Sequence[str], prompts: Sequence[Prompt]) -> None:
    if len(runs) < 2 or len(set(runs)) < len(runs):
        raise WorkbenchError(
            "campaign.runs", f"names {list(runs)}", expected="two or more different runs: campaign.runs=[ONE,OTHER]"
        )
    if not prompts:
        raise WorkbenchError("campaign.prompts", "holds no prompt", expected="at least one")
    if len({prompt.id for prompt in prompts}) < len(prompts):
        raise WorkbenchError("campaign.prompts", "holds two prompts of one id", expected="an id for each prompt")
    if name in campaign_names(store):
        raise WorkbenchError(
            f"campaign.name={name}",
            "was started before",
            expected="a new name",
            remedy=f"see what it found: python -m annotate campaign report CONFIG.yaml campaign.name={name}",
        )


def _items(name: str, prompt: Prompt, texts: Sequence[str], seed: int) -> Iterator[Item]:
    """Every two different answers; in an order that says nothing of the runs, and without their names."""
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    for pair in itertools.combinations(range(len(texts)), 2):
        item_id = f"campaign-{digest}-{prompt.id}-{pair[0]}-{pair[1]}"
        first, second = pair if unit_hash(seed, "campaign", item_id) < 0.5 else pair[::-1]
        yield Item(
            id=item_id,
            group=prompt.id,
            prompt=prompt.prompt,
            responses=tuple(Response(id=str(place), text=texts[place], run=name) for place in (first, second)),
        )


def campaign_names(store: Store) -> list[str]:
    """The campaigns of a store, in the order of their start."""
    with store.read() as transaction:
        return list(started_campaigns(transaction))


def started_campaigns(transaction: Transaction) -> dict[str, dict[str, object]]:
    """What was noted of each campaign at its start: name, runs, and which answer each run gave to each prompt."""
    return {event["detail"]["name"]: event["detail"] for event in transaction.events() if event["kind"] == EVENT}
