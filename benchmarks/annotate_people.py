"""Claim: with 100 000 items and 30 people at once, the labelling server stores an answer within 100 ms on SQLite and
within 200 ms on PostgreSQL, for 95 of 100 answers.

A person's browser keeps its connection, sends about one answer per second, and after each asks for the card ahead, as
the page does; every fifth time it asks for the current card, as a reload does.

    python -m benchmarks.annotate_people [CHECKOUT …]

Measures each checkout (default: this one) in turn, on the same machine: a server of that checkout, over a store that it
filled itself. PostgreSQL is started for the measurement, with fsync on, if it is installed.
"""

import http.client
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from annotate.config import QueueSection
from annotate.intake.items import load_items
from annotate.people.accounts import add_account
from annotate.people.tokens import make_token
from annotate.store.database import Store
from benchmarks.annotate_store import items, milliseconds
from tests.annotate import postgres

CLAIM = "95 of 100 answers are stored within 100 ms (SQLite) and 200 ms (PostgreSQL)"
ITEMS = 100_000
PEOPLE = 30
SECONDS = 45.0
THINK_SECONDS = (0.5, 1.5)
HERE = Path(__file__).resolve().parents[1]


def fill(url: str) -> None:
    """Load the items and add the people; prints their tokens."""
    store, queue, every = Store.open(url), QueueSection(overlap=3, overlap_share=0.1), items(ITEMS)
    load_items(store, itertools.islice(every, 1000), queue)
    if store.path is None:  # earlier checkouts load into a server without statistics, which takes half an hour
        with store.write() as transaction:
            transaction._connection.execute(sa.text("ANALYZE"))
    load_items(store, every, queue)
    add_account(store, "lead", "admin", "a long password")
    names = [f"person-{number}" for number in range(PEOPLE)]
    with store.write() as transaction:
        for name in names:
            transaction.add_annotator(name, "annotator", time.time())
    print(json.dumps([make_token(store, name, "load") for name in names]))
    store.close()


class Person:
    """An annotator's browser."""

    def __init__(self, port: int, token: str, seed: int) -> None:
        self._port, self._seed, self._rng = port, seed, random.Random(seed)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self.took: dict[str, list[float]] = {"next": [], "submit": [], "ahead": []}
        self.error: BaseException | None = None

    def work(self, until: float) -> None:
        """Label until the time has come."""
        try:
            self._work(until)
        except BaseException as error:
            self.error = error
            raise

    def _work(self, until: float) -> None:
        connection, number = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60), 0
        time.sleep(self._rng.uniform(0, THINK_SECONDS[1]))
        card = self._call(connection, "next", {})
        while time.perf_counter() < until:
            time.sleep(self._rng.uniform(*THINK_SECONDS))
            number += 1
            answer = {"choice": "compared", "strength": self._rng.randint(-3, 3), "seconds": 1.0}
            key = f"person-{self._seed:03}-{number:05}"
            card = self._call(connection, "submit", {"item": card["item"], "client_key": key, **answer})
            self._call(connection, "ahead", {"known": [card["item"]]})
            if number % 5 == 0:
                card = self._call(connection, "next", {})

    def _call(self, connection: http.client.HTTPConnection, path: str, body: dict[str, Any]) -> dict[str, Any]:
        start = time.perf_counter()
        connection.request("POST", f"/api/v1/{path}", json.dumps(body), self._headers)
        reply = connection.getresponse()
        content = reply.read()
        self.took[path].append(time.perf_counter() - start)
        assert reply.status == 200, content
        return dict(json.loads(content)["card"])


def measure(checkout: Path, url: str, folder: Path) -> dict[str, Any]:
    """30 people against a server of one checkout."""
    from benchmarks.annotate_load import Server  # `fill` runs the code of any checkout, which may lack it

    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    command = [sys.executable, str(Path(__file__).resolve()), "fill", url]
    filled = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    tokens = json.loads(filled.stdout)
    server = Server(folder, url=url, checkout=checkout)
    server.start()
    urllib.request.urlopen(f"http://127.0.0.1:{server.port}/login").close()  # the socket listens before it answers
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    used, until = sum(process.cpu_times()[:2]), time.perf_counter() + SECONDS
    crew = [Person(server.port, token, number) for number, token in enumerate(tokens)]
    threads = [threading.Thread(target=person.work, args=(until,)) for person in crew]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cpu = sum(process.cpu_times()[:2]) - used
    server.kill()
    assert not any(person.error for person in crew)
    took = {name: [value for person in crew for value in person.took[name]] for name in crew[0].took}
    return {
        "answers": len(took["submit"]),
        "server_cpu_milliseconds_per_answer": round(1000 * cpu / len(took["submit"]), 1),
        **{f"{name}_milliseconds": milliseconds(values) for name, values in took.items()},
    }


@contextmanager
def databases(folder: Path) -> Iterator[dict[str, str]]:
    """An empty store of each kind: its name and its address."""
    found, server = {"sqlite": str(folder / "labels.sqlite")}, None
    if postgres.missing() is None:
        server = postgres.Server(durable=True)
        found["postgresql"] = server.empty_database()
    yield found
    if server is not None:
        server.stop()


def main() -> None:
    """Measure the checkouts and write what they gave."""
    from benchmarks.record import RESULTS, write_result  # imports torch, which `fill` does not need

    checkouts = [Path(name).resolve() for name in sys.argv[1:]] or [HERE]
    result: dict[str, Any] = {
        "claim": CLAIM,
        "items": ITEMS,
        "people": PEOPLE,
        "think_seconds": THINK_SECONDS,
        "seconds": SECONDS,
    }
    for checkout in checkouts:
        commit = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
        named = subprocess.run(commit, capture_output=True, text=True, check=True).stdout.strip()
        result[named] = {}
        with tempfile.TemporaryDirectory() as name, databases(Path(name)) as stores:
            for kind, url in stores.items():
                load = round(os.getloadavg()[0], 1)
                measured = measure(checkout, url, Path(name))
                result[named][kind] = {"load_of_the_machine_before": load, **measured}
                print(checkout, kind, json.dumps(result[named][kind]), flush=True)
    write_result(RESULTS / "annotate_people.json", result)


if __name__ == "__main__":
    fill(sys.argv[2]) if sys.argv[1:2] == ["fill"] else main()
