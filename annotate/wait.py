"""Waits for the labels of a round, and tells the page which round it is. Shares only the store with the page."""

import time
from collections.abc import Callable
from contextlib import closing

from annotate.config import AnnotateConfig
from annotate.queue.progress import put_round, round_progress
from annotate.store.database import Store
from workbench.run.errors import WorkbenchError
from workbench.run.progress import progress


def wait_for_labels(
    config: AnnotateConfig, *, labels: int, rounds: int, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Return once people have labelled so many pairs of the round `pairs.round`, or all of it if it has fewer.

    Args:
        config: the store, the round, and how often to look (`follow.poll_seconds`).
        labels: pairs to label in the round.
        rounds: rounds in all, for the page.
        sleep: waits for so many seconds.

    Raises:
        WorkbenchError: the store has no pair of the round.
    """
    with closing(Store.open(config.store_url, as_it_is=True)) as store:
        labels = _announced(store, config.pairs.round, rounds=rounds, labels=labels)
        description = f"labels of round {config.pairs.round} of {rounds}"
        with progress(total=labels, description=description, unit="label") as bar:
            while True:
                with store.read() as transaction:
                    now = round_progress(transaction)
                assert now is not None  # it was put there above
                bar.update(labels - now.to_go - bar.n)
                if now.to_go == 0:
                    break
                sleep(config.follow.poll_seconds)
    print(f"{store.place}: round {config.pairs.round} of {rounds} has its {labels:,} labels; labelling may go on")


def _announced(store: Store, number: int, *, rounds: int, labels: int) -> int:
    """Tell the page of the round; returns how many of its pairs to wait for."""
    with store.write() as transaction:
        pairs = transaction.items_of_round(number)
        if pairs == 0:
            raise WorkbenchError(
                store.place,
                f"has no pair of round {number}, so nobody can label one",
                remedy=f"load some first: python -m annotate load CONFIG FILE pairs.round={number}",
            )
        if pairs < labels:
            print(f"{store.place}: round {number} has only {pairs:,} pairs; waiting for a label of each")
            labels = pairs
        put_round(transaction, number, rounds=rounds, labels=labels)
    return labels
