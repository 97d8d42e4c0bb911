"""Claim: a labelling server that nobody uses takes less than 0.5 % of a core.

    python -m benchmarks.annotate_idle

Processor time of `python -m annotate serve` over a store of 1 000 items, in minutes without a request. It does not
depend much on what else the machine does.
"""

import tempfile
import time
from pathlib import Path

import psutil

from annotate.config import QueueSection
from annotate.intake.items import load_items
from annotate.store.database import Store
from benchmarks.annotate_load import Server
from benchmarks.annotate_store import items
from benchmarks.record import RESULTS, spread, write_result

ITEMS = 1000
SETTLE_SECONDS = 10
SECONDS = 60
REPEATS = 3


def main() -> None:
    """Measure, and write the result."""
    with tempfile.TemporaryDirectory() as name:
        store = Store.open(Path(name) / "labels.sqlite")
        load_items(store, items(ITEMS), QueueSection())
        store.close()
        server = Server(Path(name))
        server.start()
        assert server.process is not None
        process = psutil.Process(server.process.pid)
        time.sleep(SETTLE_SECONDS)
        shares = []
        for _ in range(REPEATS):
            before = sum(process.cpu_times()[:2])
            time.sleep(SECONDS)
            shares.append(round(100 * (sum(process.cpu_times()[:2]) - before) / SECONDS, 3))
        server.kill()
    content = {"claim": "below 0.5 % of a core", "items": ITEMS, "seconds": SECONDS}
    write_result(RESULTS / "annotate_idle.json", {**content, "percent_of_a_core": spread(shares)})


if __name__ == "__main__":
    main()
