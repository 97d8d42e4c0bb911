"""The queue on both databases, and what tests read of its tables."""

from collections.abc import Callable

import pytest

from annotate.config import QueueSection
from annotate.queue.rules import Queue
from annotate.store.database import Store
from annotate.store.statements import Annotator
from tests.annotate.conftest import Clock

Account = Callable[..., Annotator]
Load = Callable[..., None]


@pytest.fixture
def store(either_store: Store) -> Store:
    return either_store


@pytest.fixture
def queue(store: Store, clock: Clock) -> Queue:
    return Queue(store, QueueSection(lease_seconds=60), clock=clock)


def rows_of(store: Store, table: str) -> list[dict[str, object]]:
    with store.read() as transaction:
        return [dict(row._mapping) for row in transaction._connection.exec_driver_sql(f"SELECT * FROM {table}")]
