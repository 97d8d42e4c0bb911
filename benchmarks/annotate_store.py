"""How fast the label store is without a server: lease and submit from 16 threads; 100 000 items and `next` among them;
the lead's statistics over 51 000 judgements.

Used by `benchmarks.annotate_load`. After each part the store itself is asked whether anything was lost, doubled or
over-assigned.
"""

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from annotate.config import QueueSection
from annotate.intake.items import load_items
from annotate.labels.survey import survey
from annotate.queue.rules import Card, Queue, Submission
from annotate.store import schema
from annotate.store.database import Store
from annotate.store.statements import Annotator
from workbench.data.records import Item, Message, Response


def items(count: int, prefix: str = "i") -> Iterator[Item]:
    """Pairs of about a thousand characters."""
    for number in range(count):
        name = f"{prefix}{number}"
        answers = (f"First answer to {name}. " + "word " * 80, f"Second answer to {name}. " + "other " * 80)
        yield Item(
            id=name,
            group=name,
            prompt=(Message(role="user", content=f"Question {name}? " + "why " * 40),),
            responses=tuple(Response(id=str(k), text=text) for k, text in enumerate(answers)),
        )


def people(store: Store, count: int) -> list[Annotator]:
    """New annotators."""
    with store.write() as transaction:
        for number in range(count):
            transaction.add_annotator(f"person-{number}", "annotator", time.time())
        return [account for account in transaction.annotators() if account.name.startswith("person-")]


def fill(store: Store, count: int, annotators: int, *, seed: int = 0, each: int = 2) -> None:
    """Items judged by `each` of so many people around a truth of each item, written in one go."""
    rng = np.random.default_rng(seed)
    load_items(store, items(count), QueueSection(overlap=each, overlap_share=1))
    accounts = people(store, annotators)
    with store.write() as transaction:
        truth, assignments, judgements = rng.integers(-3, 4, count), [], []
        for number in range(count):
            for place in rng.choice(annotators, each, replace=False).tolist():
                who = accounts[place]
                shared = {
                    "item": number + 1,
                    "annotator": who.id,
                    "revision": 1,
                    "swapped": bool(rng.random() < 0.5),
                }
                strength = int(np.clip(truth[number] + rng.integers(-2, 3), -3, 3))
                made = {"choice": "compared", "strength": strength, "client_key": f"{who.name}-{number}"}
                judgements.append({**shared, **made, "seconds": 20.0, "created_at": 1000.0 + 20 * number})
                lease = {"state": "done", "simulated": False, "leased_at": 0.0, "expires_at": 0.0}
                assignments.append({**shared, **lease})
        transaction._connection.execute(sa.insert(schema.assignment), assignments)
        transaction._connection.execute(sa.insert(schema.judgement), judgements)


def statistics(store: Store, *, repeats: int = 3) -> dict[str, Any]:
    """Everything that the lead's page shows, bootstrap intervals and Dawid-Skene among it, from 51 000 judgements."""
    fill(store, 17_000, 12, each=3)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        found = survey(store, simulated=False, now=2000.0)
        seconds.append(round(time.perf_counter() - start, 2))
    return {"judgements": found.given, "seconds": seconds}


def percentile(values: list[float], share: float) -> float:
    """The value that so large a share of the values does not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def milliseconds(values: list[float]) -> dict[str, float]:
    """Median, 95th and 99th percentile and largest of some seconds."""
    shown = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "largest": 1.0}
    return {name: round(1000 * percentile(values, share), 1) for name, share in shown.items()}


def throughput(store: Store, *, threads: int = 16, seconds: float = 5) -> dict[str, Any]:
    """Lease and submit as fast as it goes, each thread an annotator, overlap 3."""
    load_items(store, items(4000), QueueSection(overlap=3, overlap_share=0.5))
    queue, accounts = Queue(store, QueueSection(lease_seconds=60)), people(store, threads)
    took: list[float] = []
    sent: list[str] = []
    until = time.perf_counter() + seconds

    def work(who: Annotator) -> None:
        while time.perf_counter() < until:
            start = time.perf_counter()
            card = queue.next(who)
            assert isinstance(card, Card), card
            key = f"{who.name}-{card.item:08}"
            queue.submit(who, Submission(card.item, "compared", key, strength=1))
            took.append(time.perf_counter() - start)
            sent.append(key)

    workers = [threading.Thread(target=work, args=(who,)) for who in accounts]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    elapsed = time.perf_counter() - start
    return {
        "threads": threads,
        "pairs_per_second": round(len(sent) / elapsed),
        "milliseconds": milliseconds(took),
        **wrongs(store, sent),
    }


def many_items(store: Store, *, count: int = 100_000, calls: int = 400) -> dict[str, Any]:
    """Import many items, then `next` and `submit` among them."""
    made = list(items(count, "many"))
    start = time.perf_counter()
    loaded = load_items(store, made, QueueSection(overlap=3, overlap_share=0.1))
    seconds = time.perf_counter() - start
    assert loaded.new == count
    queue, (who,) = Queue(store, QueueSection(lease_seconds=60)), people(store, 1)
    timed: dict[str, list[float]] = {"next": [], "submit": [], "progress": []}
    for number in range(calls):
        start = time.perf_counter()
        card = queue.next(who)
        leased = time.perf_counter()
        assert isinstance(card, Card)
        queue.submit(who, Submission(card.item, "compared", f"many-{number:06}", strength=2))
        saved = time.perf_counter()
        queue.progress(who)
        for name, value in zip(timed, (leased - start, saved - leased, time.perf_counter() - saved), strict=True):
            timed[name].append(value)
    return {
        "items": count,
        "import_seconds": round(seconds, 1),
        **{f"{name}_milliseconds": milliseconds(values) for name, values in timed.items()},
    }


def wrongs(store: Store, acknowledged: list[str]) -> dict[str, int]:
    """What must all be 0, counted from the tables."""
    with store.read() as transaction:
        every = list(transaction.all_judgements())
        stored_items = {item.item_id: item for item in transaction.items()}
    keys = Counter(row["client_key"] for row in every)
    counted = [row for row in every if row["current"] and row["choice"] != "withdrawn" and not row["surplus"]]
    per_item = Counter(row["item"] for row in counted)
    pairs = Counter((row["item"], row["annotator"]) for row in counted)
    return {
        "acknowledged": len(set(acknowledged)),
        "lost": len(set(acknowledged) - set(keys)),
        "duplicates": sum(count > 1 for count in keys.values()) + sum(count > 1 for count in pairs.values()),
        "over_assigned": sum(count > stored_items[name].overlap for name, count in per_item.items()),
        "miscounted": sum(per_item[name] != item.done for name, item in stored_items.items()),
    }


def integrity(path: Path) -> str:
    """What SQLite says about a file: `ok`."""
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])
