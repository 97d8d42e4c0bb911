"""`python -m annotate judge`: a model judges the items of the store, those that people have decided first."""

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from annotate.config import AnnotateConfig
from annotate.intake.labels import Origin, store_labels
from annotate.judge.calibration import ROLE, Calibration, calibrations, orders_text
from annotate.judge.endpoint import Judge, Verdict
from annotate.store.database import Store
from annotate.store.statements import StoredItem
from workbench.data.records import ItemLabel
from workbench.run.progress import progress


def judge_items(store: Store, config: AnnotateConfig) -> list[str]:
    """Judge items, and say what is known about the judge.

    Items that people decided come first. The others follow only if the judge counts in exports by then. Each batch is
    stored at once; the same command goes on after a stop.

    Returns:
        Lines for the terminal.

    Raises:
        WorkbenchError: the endpoint cannot be asked, or the configuration lacks it.
    """
    judge = Judge(config.judge)
    decided, others = _waiting(store, judge.account)
    unread = _judge(store, judge, decided[: config.judge.number or None], config.judge.parallel)
    found = _found(store, judge.account)
    refusal = found.refusal(config.export) if found else "no item was judged"
    left = config.judge.number - len(decided) if config.judge.number else len(others)
    if refusal is None and left > 0:
        unread += _judge(store, judge, others[:left], config.judge.parallel)
        found = _found(store, judge.account)
    lines = [f"{judge.account} ({judge.model} at {judge.url})", *(found.lines() if found else [])]
    if unread:
        lines.append(f"{unread:,} pairs got no verdict and are asked again next time")
    return [*lines, "counts in exports" if refusal is None else f"counts in no export: {refusal}"]


def _found(store: Store, account: str) -> Calibration | None:
    return calibrations(store).get(account)


def _waiting(store: Store, account: str) -> tuple[list[StoredItem], list[StoredItem]]:
    """The pairs outside campaigns that the judge has not judged: those that people judged, and the others."""
    with store.read() as transaction:
        answers = transaction.all_responses()
        judgements = list(transaction.current_judgements())
        items = [i for i in transaction.items(kind="ordinary") if i.campaign is None and len(answers[i.id]) == 2]
    done = {judgement.item for judgement in judgements if judgement.annotator == account}
    people = {judgement.item for judgement in judgements if not judgement.simulated and judgement.choice == "compared"}
    waiting = [item for item in items if item.id not in done]
    return [item for item in waiting if item.id in people], [item for item in waiting if item.id not in people]


def _judge(store: Store, judge: Judge, items: Sequence[StoredItem], parallel: int) -> int:
    """Ask about each item and store the verdicts; returns the number of items without a verdict."""
    if not items:
        return 0
    with store.read() as transaction:
        answers = transaction.all_responses()

    def ask(item: StoredItem) -> Verdict | None:
        first, second = (response.text for response in answers[item.id])
        return judge.compare(json.loads(item.prompt), first, second)

    unread = 0
    with (
        ThreadPoolExecutor(parallel) as pool,
        progress(total=len(items), description="judge", unit="item") as bar,
    ):
        for start in range(0, len(items), parallel):
            batch = items[start : start + parallel]
            labels = []
            for item, verdict in zip(batch, pool.map(ask, batch), strict=True):
                if verdict is None:
                    unread += 1
                    continue
                comment = orders_text(verdict.as_given, verdict.swapped)
                labels.append((item.item_id, ItemLabel(strength=verdict.strength, comment=comment)))
            with store.write() as transaction:
                transaction.put_setting(f"judge {judge.account}", judge.model)
                store_labels(store, transaction, labels, Origin(judge.account, role=ROLE), time.time())
            bar.update(len(batch))
    return unread
