"""The simulated annotators label through the same queue and the same calls as the page.

The only file of this package that reads the truth (the gold reward): it plays the people. Every name says that it is
simulated, and the store marks the account. Deterministic for a seed, also when interrupted and started again: a
judgement's noise depends on seed, annotator and item alone, and whose turn it is on the number of judgements.
"""

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from annotate.queue.rules import Card, Nothing, Queue, Submission
from annotate.store.database import Store
from annotate.store.statements import Annotator
from workbench.data.hashing import text_digest
from workbench.data.records import Message
from workbench.run.errors import WorkbenchError
from workbench.tiny.annotators import SIMULATED, SimulatedAnnotator
from workbench.tiny.gold import gold_reward

Step = Callable[[int], object]


def simulate(
    store: Store,
    queue: Queue,
    *,
    number: int = 0,
    seed: int = 0,
    annotators: Sequence[SimulatedAnnotator] = SIMULATED,
    step: Step = lambda count: None,
) -> int:
    """Let simulated annotators label in turn; returns how many judgements they made.

    Args:
        number: stop after so many; 0: when nothing is left for any of them.
        step: called after each judgement with 1 (a progress bar's `update`).
    Raises:
        WorkbenchError: a prompt whose truth is unknown.
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
            "the simulated annotators do not know what a good answer to this prompt is",
            expected="prompts of the embedded help desk (tiny:prompts)",
            remedy="let people label these: python -m annotate serve CONFIG.yaml",
        )
    return simulated.judge(left.total, right.total, _noise(seed, simulated.name, card.item_id))


def _noise(seed: int, name: str, item_id: str) -> np.random.Generator:
    digest = text_digest(seed, name, item_id)
    return np.random.default_rng(np.frombuffer(digest[:16], dtype=np.uint32))


def _key(seed: int, name: str, item_id: str) -> str:
    return "sim-" + text_digest(seed, name, item_id).hex()[:40]
