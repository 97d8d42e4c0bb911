"""A real server and a real browser. Everything here is skipped where there is no Chromium."""

import itertools
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher

from annotate.people.accounts import add_account
from annotate.store.database import Store
from tests.annotate.conftest import make_item
from tests.conftest import skip_or_fail
from workbench.data.readers import write_records
from workbench.data.records import Item

ROOT = Path(__file__).parents[3]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PASSWORD = "correct horse battery"
PEOPLE = 40
LEAD = "lead"


def requests_of(name: str) -> re.Pattern[str]:
    """The address of the card's requests for a server function."""
    return re.compile(rf"/gradio_api/component_server/\?{name}$")


class Server:
    """`python -m annotate serve` on a free port, over one store with accounts p0, p1, …"""

    def __init__(self, folder: Path, items: Sequence[Item], *overrides: str) -> None:
        self.folder, self.store = folder, folder / "labels.sqlite"
        self._overrides = overrides
        self._free = itertools.count()
        write_records(folder / "items.jsonl", items)
        opened = Store.open(self.store)
        with pytest.MonkeyPatch.context() as patch:  # argon2 as it is, with less work
            patch.setattr("annotate.people.accounts._hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
            for number in range(PEOPLE):
                add_account(opened, f"p{number}", "annotator", PASSWORD)
            add_account(opened, LEAD, "admin", PASSWORD)
        opened.close()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [*self.command(), f"store.url={self.store}", f"server.port={self.port}", *self._overrides]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, stdout=log, stderr=log)
        for _ in range(480):
            try:
                urllib.request.urlopen(f"{self.url}/login", timeout=1).close()
                return
            except OSError:
                assert self.process.poll() is None, (self.folder / "server.log").read_text()
                time.sleep(0.25)
        raise AssertionError("the server did not start")

    def command(self) -> list[str]:
        """The words after `python -m`, without the addresses of store and server."""
        return ["annotate", "serve", str(ROOT / "configs/tiny/annotate.yaml"), f"pairs.out={self.folder}/items.jsonl"]

    def kill(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def somebody(self) -> str:
        """The name of an account that no test has used."""
        return f"p{next(self._free)}"

    def judgements(self, name: str) -> list[sqlite3.Row]:
        """Everything that the store holds of somebody, in order; `shown`: the strength as it was given."""
        connection = sqlite3.connect(self.store)
        connection.row_factory = sqlite3.Row
        rows = connection.execute(
            "SELECT judgement.*, CASE WHEN swapped THEN -strength ELSE strength END AS shown FROM judgement"
            " JOIN annotator ON annotator.id = judgement.annotator WHERE name = ? ORDER BY judgement.id",
            (name,),
        ).fetchall()
        connection.close()
        return rows


class Reader:
    """Somebody with a page open, and what a test asks of the page."""

    def __init__(self, page: Any, server: Server, name: str) -> None:
        self.page, self.server, self.name = page, server, name
        self.foreign: list[str] = []
        self.problems: list[str] = []
        own = (server.url, "data:")
        page.on("request", lambda request: None if request.url.startswith(own) else self.foreign.append(request.url))
        page.on("pageerror", lambda error: self.problems.append(str(error)))

    def log_in(self) -> None:
        """By keyboard."""
        self.page.goto(self.server.url)
        self.page.wait_for_function("() => document.activeElement.name === 'name'")
        self.page.keyboard.type(self.name)
        self.page.keyboard.press("Tab")
        self.page.keyboard.type(PASSWORD)
        self.page.keyboard.press("Enter")
        self.ready()

    def ready(self) -> None:
        self.page.wait_for_selector("#annotate[aria-busy=false]", timeout=30_000)

    def prompt(self) -> str:
        return str(self.page.text_content("#prompt .turn:last-child .text"))

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def answer(self, *keys: str) -> None:
        """Press keys, and wait for another card."""
        before = self.prompt()
        self.press(*keys)
        self.page.wait_for_function(
            "before => document.querySelector('#prompt .turn:last-child .text').textContent !== before && "
            "document.getElementById('annotate').getAttribute('aria-busy') === 'false'",
            arg=before,
        )

    def fetched_ahead(self) -> None:
        """Wait until the browser has the card after this one."""
        self.page.wait_for_selector("#annotate[aria-busy=false][data-ahead]:not([data-ahead='0'])", timeout=30_000)

    def saved(self) -> None:
        """Wait until the server has acknowledged everything."""
        self.page.wait_for_function(
            "() => !Object.keys(localStorage).some(name => name.startsWith('annotate.outbox.'))", timeout=60_000
        )

    def judgements(self) -> list[sqlite3.Row]:
        self.saved()
        return self.server.judgements(self.name)


@pytest.fixture(scope="package")  # not for the session: while the driver lives, asyncio.run is refused
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        skip_or_fail("no Chromium on this machine")
    from playwright import sync_api as playwright

    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")  # not for the session: while the driver lives, asyncio.run is refused
def server(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Many plain pairs, each to be judged once."""
    items = [make_item(f"i{n}", f"one **{n}**", f"two {n}") for n in range(700)]
    server = Server(tmp_path_factory.mktemp("pairs"), items, "queue.overlap=1")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Reader]]:
    """Opens a page of somebody at a server; the options are a browser context's."""
    contexts: list[Any] = []

    def open_page(server: Server, name: str | None = None, **options: Any) -> Reader:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        contexts.append(context)
        reader = Reader(context.new_page(), server, name or server.somebody())
        reader.log_in()
        return reader

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def reader(server: Server, opened: Callable[..., Reader]) -> Iterator[Reader]:
    """Somebody new at the common server; nothing may leave it, and no script may fail."""
    reader = opened(server)
    yield reader
    assert reader.foreign == []
    assert reader.problems == []
