"""Programs with a card, as users write them, and pages around them."""

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.annotate.browser.conftest import ROOT, see
from tests.annotate.conftest import make_item
from workbench.data.readers import write_records
from workbench.data.records import Item

DOCUMENTED = re.findall(
    r"```python\n(.*?)```", (ROOT / "docs/annotate-embed.md").read_text(encoding="utf-8"), re.DOTALL
)
"""The programs of docs/annotate-embed.md: a notebook's cell, which is a script too, and an application."""


class Program:
    """A script that serves a page with cards, in a process of its own."""

    def __init__(self, folder: Path, script: str, items: Sequence[Item] = ()) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        (folder / "program.py").write_text(script.replace("PORT", str(self.port)), encoding="utf-8")
        plain = [make_item(f"i{n}", f"one **{n}**", f"two {n}") for n in range(60)]
        write_records(folder / "pairs.jsonl", [*items, *plain])
        self.start()

    def start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "GRADIO_SERVER_PORT": str(self.port)}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "program.py"], cwd=self.folder, stdout=log, stderr=log, env=environment
            )
        for _ in range(1200):
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert self.process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.1)
        raise AssertionError("the program did not start")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


def stored(place: Program | Path, name: str = "labels") -> list[tuple[str, int | None]]:
    """Annotator and strength of every judgement in a store of a program, or in a folder."""
    folder = place if isinstance(place, Path) else place.folder
    connection = sqlite3.connect(folder / f"{name}.sqlite")
    rows = connection.execute(
        "SELECT name, CASE WHEN swapped THEN -strength ELSE strength END FROM judgement"
        " JOIN annotator ON annotator.id = judgement.annotator ORDER BY judgement.id"
    ).fetchall()
    connection.close()
    return rows


def ready(frame: Any, within: str = "") -> None:
    see(frame, f"{within} .annotate[aria-busy=false]")


def prompt(frame: Any, within: str = "") -> str:
    return str(frame.text_content(f"{within} .prompt .turn:last-child .text"))


def answer(page: Any, frame: Any, key: str, within: str = "") -> None:
    before = prompt(frame, within)
    page.keyboard.press(key)
    frame.wait_for_function(
        "([within, before]) => { const find = (what) => document.querySelector(`${within} ${what}`);"
        " return find('.prompt .turn:last-child .text').textContent !== before"
        " && find('.annotate').getAttribute('aria-busy') === 'false'; }",
        arg=[within, before],
    )


def sent(frame: Any) -> None:
    frame.wait_for_function(
        "() => !Object.keys(localStorage).some(name => name.startsWith('annotate.outbox.'))", timeout=60_000
    )


class served:
    """A folder as a site of its own."""

    def __init__(self, folder: Path) -> None:
        handler = partial(_Silent, directory=str(folder))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)

    def __enter__(self) -> int:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return int(self._server.server_address[1])

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass
