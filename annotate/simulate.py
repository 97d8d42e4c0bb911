"""Simulated annotators label through the same queue and the same calls as the page.

The only file of this package that reads the gold reward: it stands in for people. Every name says that the annotator is
simulated, and the store marks the account. The result is deterministic for a seed, also if interrupted and resumed: the
noise of a judgement depends only on seed, annotator and item, and whose turn it is on the number of judgements.
"""

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from annotate.config import AnnotateConfig
from annotate.intake.load import open_with_items
from annotate.queue.rules import Card, Nothing, Queue, Submission
from annotate.store.database import Store
from annotate.store.statements import Annotator
from workbench.data.hashing import text_digest
from workbench.data.records import Message
from workbench.run.errors import WorkbenchError
from workbench.run.progress import progress
from workbench.tiny.annotators import SIMULATED, SimulatedAnnotator
from workbench.tiny.gold import gold_reward

Step = Callable[[int], object]


def label_with_simulated_annotators(config: AnnotateConfig) -> None:
    """Let simulated annotators label the items of a configuration."""
    store = open_with_items(config, durable=False)
    with store.read() as transaction:
        _, wanted, given = transaction.totals(simulated=True)
    number, left = config.simulate.number, wanted - given
    with progress(total=min(number or left, left), description="simulate", unit="judgement") as bar:
        made = simulate(store, Queue(store, config.queue), number=number, seed=config.simulate.seed, step=bar.update)
    print(f"{store.place}: {made:,} judgements by simulated annotators ({given + made:,} of {wanted:,})")
    store.close()


def simulate(
    store: Store,
    queue: Queue,
    *,
    number: int = 0,
    seed: int = 0,
    annotators: Sequence[SimulatedAnnotator] = SIMULATED,
    step: Step = lambda count: None,
) -> int:
    """Let simulated annotators label in turn; returns the number of judgements that they made.

    Args:
        number: judgements to make; 0: until no item is left for any of them.
        step: called with 1 after each judgement (a progress bar's `update`).
    Raises:
        WorkbenchError: a prompt that the gold reward does not know.
    """
    accounts = _accounts(store, annotators)
    with store.read() as transaction:
        made_before = transaction.totals(simulated=True)[2]
    turns = deque(zip(annotators, accounts, strict=True))
    turns.rotate(-(made_before % len(turns)))
    made = 0
    while turns and not (number and made >= number):
        simulated, account = turns[0]
        card = queue.next(account)
        if isinstance(card, Nothing):
            turns.popleft()
            continue
        key = _key(seed, simulated.name, card.item_id)
        queue.submit(account, Submission(card.item, "compared", key, strength=_judge(simulated, card, seed)))
        made += 1
        step(1)
        turns.rotate(-1)
    return made


def _accounts(store: Store, annotators: Sequence[SimulatedAnnotator]) -> list[Annotator]:
    with store.write() as transaction:
        known = {account.name for account in transaction.annotators()}
        for simulated in annotators:
            if simulated.name not in known:
                transaction.add_annotator(simulated.name, "annotator", 0.0, simulated=True)
        by_name = {account.name: account for account in transaction.annotators()}
    return [by_name[simulated.name] for simulated in annotators]


def _judge(simulated: SimulatedAnnotator, card: Card, seed: int) -> int:
    prompt = [Message(role=m["role"], content=m["content"]) for m in card.prompt]  # type: ignore[arg-type]
    left = gold_reward(prompt, card.left.text, ended=card.left.ended)
    right = gold_reward(prompt, card.right.text, ended=card.right.ended)
    if left is None or right is None:
        raise WorkbenchError(
            f"item {card.item_id}",
            "the simulated annotators cannot judge answers to this prompt",
            expected="prompts of the embedded help desk (tiny:prompts, rare:prompts)",
            remedy="let people label these: python -m annotate serve CONFIG.yaml",
        )
    return simulated.judge(left.total, right.total, _noise(seed, simulated.name, card.item_id))


def _noise(seed: int, name: str, item_id: str) -> np.random.Generator:
    digest = text_digest(seed, name, item_id)
    return np.random.default_rng(np.frombuffer(digest[:16], dtype=np.uint32))


def _key(seed: int, name: str, item_id: str) -> str:
    return "sim-" + text_digest(seed, name, item_id).hex()[:40]
