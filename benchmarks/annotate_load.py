"""Claim: the labelling server is quick for 50 people at once, and loses nothing, not even when it is killed.

Bounded (about four minutes) and on the loopback only. Parts: store alone (16 threads); 100 000 items; the lead's
statistics over 51 000 judgements; 50 annotators with think time against `python -m annotate serve`; the same while the
server is killed with -9 every few seconds and each annotator sends again what was not acknowledged, as the page does.

    [LABELS_URL=postgresql://…] python -m benchmarks.annotate_load [PART …]

With LABELS_URL, which must be an empty database, the first part runs on it too.
"""

import http.client
import json
import os
import platform
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy

from annotate.config import QueueSection
from annotate.intake.items import load_items
from annotate.people.accounts import add_account
from annotate.people.tokens import make_token
from annotate.store.database import Store
from benchmarks.annotate_store import integrity, items, many_items, milliseconds, statistics, throughput, wrongs
from workbench.run.checkpoints import write_text_atomically
from workbench.run.lineage import git_commit

OUT = Path("benchmarks/results/annotate_load.json")
ANNOTATORS = 50
THINK_SECONDS = (1.0, 4.0)


@dataclass
class Server:
    """`python -m annotate serve` over one store, on a port of its own."""

    folder: Path
    url: str | None = None
    """Its store; None: `labels.sqlite` in the folder."""
    checkout: Path | None = None
    """Whose code it runs; None: this one's."""
    port: int = 0
    starts: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        if not self.port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
        command = [sys.executable, "-m", "annotate", "serve", "configs/tiny/annotate.yaml"]
        url = self.url or self.folder / "labels.sqlite"
        command += [f"pairs.out={self.folder / 'none.jsonl'}", f"store.url={url}"]
        environment = {**os.environ, **({"PYTHONPATH": str(self.checkout)} if self.checkout else {})}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, f"server.port={self.port}"], stdout=log, stderr=log, env=environment, cwd=self.checkout
            )
        self.starts += 1
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert self.process.poll() is None, (self.folder / "server.log").read_text(encoding="utf-8")
                time.sleep(0.1)

    def kill(self) -> None:
        """End it as a power cut would end the process."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


@dataclass
class Person:
    """An annotator's browser: asks, thinks, answers; sends an answer again until it is acknowledged."""

    server: Server
    token: str
    seed: int
    think: tuple[float, float]
    took: list[float] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    sent_again: int = 0
    refused: int = 0

    def work(self, until: float) -> None:
        """Label until the time has come."""
        rng, number = random.Random(self.seed), 0
        reply = self._call("next", {}, until)
        while reply is not None and reply["card"] and time.perf_counter() < until:
            time.sleep(rng.uniform(*self.think))
            number += 1
            key = f"load-{self.seed:03}-{number:05}"
            body = {"item": reply["card"]["item"], "choice": "compared", "strength": rng.randint(-3, 3)}
            start = time.perf_counter()
            reply = self._call("submit", {**body, "client_key": key, "seconds": 1.0}, until)
            if reply is not None:
                self.took.append(time.perf_counter() - start)
                self.acknowledged.append(key)

    def _call(self, path: str, body: dict[str, Any], until: float) -> dict[str, Any] | None:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)
            try:
                connection.request("POST", f"/api/v1/{path}", json.dumps(body), headers)
                reply = connection.getresponse()
                content = reply.read()
            except (OSError, http.client.HTTPException):
                self.sent_again += 1
                if time.perf_counter() > until + 30:
                    return None
                time.sleep(0.2)
                continue
            finally:
                connection.close()
            if reply.status == 200:
                return dict(json.loads(content))
            self.refused += 1
            raise AssertionError(f"{path}: {reply.status} {content!r}")


def crowd(
    folder: Path, *, seconds: float, think: tuple[float, float], disturb: Callable[[Server, float], int]
) -> dict[str, Any]:
    """50 people against one server, which `disturb` may trouble; it returns how often it did."""
    folder.mkdir()
    store = Store.open(folder / "labels.sqlite")
    load_items(store, items(6000), QueueSection(overlap=3, overlap_share=0.2))
    names = [f"ann-{number}" for number in range(ANNOTATORS)]
    add_account(store, "lead", "admin", "a long password")
    with store.write() as transaction:
        for name in names:
            transaction.add_annotator(name, "annotator", time.time())
    tokens = [make_token(store, name, "load") for name in names]
    server = Server(folder)
    server.start()
    until = time.perf_counter() + seconds
    crew = [Person(server, token, number, think) for number, token in enumerate(tokens)]
    threads = [threading.Thread(target=person.work, args=(until,)) for person in crew]
    for thread in threads:
        thread.start()
    kills = disturb(server, until)
    for thread in threads:
        thread.join()
    server.kill()
    took = [value for person in crew for value in person.took]
    result = {
        "annotators": ANNOTATORS,
        "think_seconds": think,
        "seconds": seconds,
        "kills": kills,
        "labels_per_second": round(len(took) / seconds, 1),
        "save_and_next_milliseconds": milliseconds(took),
        "sent_again": sum(person.sent_again for person in crew),
        **wrongs(store, [key for person in crew for key in person.acknowledged]),
        "integrity_check": integrity(folder / "labels.sqlite"),
    }
    store.close()
    return result


def undisturbed(_server: Server, _until: float) -> int:
    """Leave the server alone."""
    return 0


def killed(server: Server, until: float) -> int:
    """Kill the server every few seconds and start it again."""
    rng, kills = random.Random(0), 0
    while time.perf_counter() < until - 8:
        time.sleep(rng.uniform(2, 5))
        server.kill()
        kills += 1
        server.start()
    return kills


def main() -> None:
    """Run all parts and write what they gave."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "store": lambda: throughput(Store.open(folder / "threads.sqlite")),
            "many_items": lambda: many_items(Store.open(folder / "many.sqlite")),
            "statistics": lambda: statistics(Store.open(folder / "judged.sqlite")),
            "crowd": lambda: crowd(folder / "crowd", seconds=40, think=THINK_SECONDS, disturb=undisturbed),
            "crowd_with_kills": lambda: crowd(folder / "kills", seconds=60, think=(0.3, 1.0), disturb=killed),
        }
        if "LABELS_URL" in os.environ:
            parts["store_postgresql"] = lambda: throughput(Store.open(os.environ["LABELS_URL"]))
        chosen = sys.argv[1:] or list(parts)
        content = json.loads(OUT.read_text(encoding="utf-8")) if OUT.is_file() else {}
        for part in chosen:
            load = round(os.getloadavg()[0], 1)
            content[part] = {"commit": git_commit(), "load_of_the_machine_before": load, **parts[part]()}
            print(part, json.dumps(content[part]), flush=True)
    content["hardware"] = {"cpus": os.cpu_count(), "machine": platform.machine(), "niceness": os.nice(0)}
    content["versions"] = {"python": platform.python_version(), "sqlalchemy": sqlalchemy.__version__}
    write_text_atomically(OUT, json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
