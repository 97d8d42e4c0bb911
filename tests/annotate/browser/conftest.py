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
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher

from annotate.config import AnnotateConfig, QueueSection
from annotate.intake.load import open_with_items
from annotate.people.accounts import add_account
from annotate.queue.rules import Queue, Submission
from annotate.store.database import Store
from tests.annotate.conftest import make_item, open_card
from tests.conftest import skip_or_fail
from workbench.data.readers import write_records
from workbench.data.records import Item
from workbench.run.config import load_config
from workbench.serve.http import listen, make_server

ROOT = Path(__file__).parents[3]
TINY = ROOT / "configs/tiny/annotate.yaml"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--host-resolver-rules=MAP *.hf.space 127.0.0.1",
]
PASSWORD = "correct horse battery"
LEAD = "lead"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A browser that never answers fails its test, not the whole run."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(300))


def requests_of(name: str) -> re.Pattern[str]:
    """The address of the card's requests for a server function."""
    return re.compile(rf"/gradio_api/component_server/\?{name}$")


class Server:
    """The application of `annotate serve` in a thread, on a free port, over one store with accounts p0, p1, …"""

    people = 40

    def __init__(self, folder: Path, items: Sequence[Item], *overrides: str) -> None:
        self.folder, self.store = folder, folder / "labels.sqlite"
        self._overrides = overrides
        self._free = itertools.count()
        write_records(folder / "items.jsonl", items)
        opened = Store.open(self.store, durable=False)
        with pytest.MonkeyPatch.context() as patch:  # argon2 as it is, with less work
            patch.setattr("annotate.people.accounts._hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
            for number in range(self.people):
                add_account(opened, f"p{number}", "annotator", PASSWORD)
            add_account(opened, LEAD, "admin", PASSWORD)
        opened.close()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        config = load_config(AnnotateConfig, TINY, [f"store.url={self.store}", *self.options()])[0]
        self._opened = open_with_items(config, durable=False)
        # Not in this thread: playwright's loop runs here, and Gradio's applications are made in one of their own.
        with ThreadPoolExecutor(1) as thread:
            self._uvicorn = make_server(thread.submit(self.application, config, self._opened).result(), drain_seconds=0)
        listener = [listen("127.0.0.1", self.port)]
        self._thread = threading.Thread(target=self._uvicorn.run, kwargs={"sockets": listener}, daemon=True)
        self._thread.start()  # the listener queues what comes before it runs

    def application(self, config: AnnotateConfig, store: Store) -> Any:
        from annotate.serve import application  # gradio takes seconds to load: only where it is used
        from annotate.web.contents import read_contents, remember_contents

        contents = read_contents(config.server.title, config.page)
        remember_contents(store, contents)
        return application(config, store, contents, login=True)

    def options(self) -> list[str]:
        return [f"pairs.out={self.folder}/items.jsonl", f"server.port={self.port}", *self._overrides]

    def kill(self) -> None:
        """End it without waiting for requests: a heartbeat never ends."""
        self._uvicorn.should_exit = True
        self._thread.join()
        self._opened.close()

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


class ServerProcess(Server):
    """The same as a process of its own, which can be killed."""

    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "server.log").open("ab") as log:
            command = [sys.executable, "-m", *self.command(), f"store.url={self.store}", *self.options()]
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        for _ in range(1200):
            try:
                urllib.request.urlopen(f"{self.url}/login", timeout=1).close()
                return
            except OSError:
                assert self.process.poll() is None, (self.folder / "server.log").read_text()
                time.sleep(0.1)
        raise AssertionError("the server did not start")

    def command(self) -> list[str]:
        """The words after `python -m`, without options."""
        return ["annotate", "serve", str(TINY)]

    def kill(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


HURRY = """() => {
  const later = window.setTimeout;
  window.setTimeout = (run, after, ...more) => later(run, after === 200 ? 0 : after, ...more);
}"""
"""Lets a new card take an answer at once; otherwise it waits until anybody can have seen it (`HELD_MS`)."""


class Reader:
    """Somebody with a page open, and what a test asks of the page."""

    def __init__(self, page: Any, server: Server, name: str) -> None:
        self.page, self.server, self.name = page, server, name
        self.foreign: list[str] = []
        self.problems: list[str] = []
        page.on("request", self._look_at)
        page.on("pageerror", self._note)

    def _look_at(self, request: Any) -> None:
        if not request.url.startswith((self.server.url, "data:")):
            self.foreign.append(request.url)

    def _note(self, error: Any) -> None:
        self.problems.append(str(error))

    def log_in(self, path: str = "/label/") -> None:
        account = {"name": self.name, "password": PASSWORD}
        self.page.context.request.post(f"{self.server.url}/login", form=account, max_redirects=0)
        self.page.goto(f"{self.server.url}{path}", wait_until="commit")
        if path == "/label/":
            self.ready()

    def log_in_by_keyboard(self) -> None:
        forget_everybody(self.page, f"{self.server.url}/login")
        self.page.wait_for_function("() => document.activeElement.name === 'name'")
        self.page.keyboard.type(self.name)
        self.page.keyboard.press("Tab")
        self.page.keyboard.type(PASSWORD)
        self.page.keyboard.press("Enter")
        self.ready()

    def leave(self) -> None:
        """Stop listening to the page."""
        self.page.remove_listener("request", self._look_at)
        self.page.remove_listener("pageerror", self._note)

    def ready(self) -> None:
        self.see("#annotate[aria-busy=false]")

    def hurry(self) -> None:
        """Do not wait for eyes, until the page is loaded again."""
        self.page.evaluate(HURRY)

    def see(self, selector: str) -> None:
        """Wait until the first match can be seen: looked for at every frame, not twice a second."""
        see(self.page, selector)

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
        self.see("#annotate[aria-busy=false][data-ahead]:not([data-ahead='0'])")

    def saved(self) -> None:
        """Wait until the server has acknowledged everything."""
        self.page.wait_for_function(
            "() => !Object.keys(localStorage).some(name => name.startsWith('annotate.outbox.'))", timeout=60_000
        )

    def judgements(self) -> list[sqlite3.Row]:
        self.saved()
        return self.server.judgements(self.name)


def judge(server: Server, name: str, *strengths: int) -> None:
    """Judgements of somebody without a browser: of the items that they are given, as they are shown."""
    store = Store.open(server.store, durable=False)
    queue = Queue(store, QueueSection(overlap=1))
    with store.read() as transaction:
        who = transaction.annotator(name)
    assert who is not None
    for number, strength in enumerate(strengths):
        card = open_card(queue, who)
        queue.submit(who, Submission(card.item, "compared", f"{name}-{number}-of-a-test", strength=strength))
    store.close()


def see(frame: Any, selector: str) -> None:
    """`wait_for_selector`, which looks again after half a second, at every frame."""
    frame.wait_for_function("what => document.querySelector(what)?.checkVisibility()", arg=selector, timeout=30_000)


def forget_everybody(page: Any, address: str) -> None:
    """To an address with nothing kept in the browser. The page stays in the process that has compiled Gradio."""
    page.goto("about:blank")  # without its cookie, a page goes to its login by itself, perhaps in the next goto
    page.context.clear_cookies()
    page.goto(address)
    if address != "about:blank":
        page.evaluate("() => { localStorage.clear(); sessionStorage.clear(); }")


class Windows:
    """Browser contexts, each with a page, that tests take in turn: Gradio, once compiled, loads in half the time."""

    def __init__(self, browser: Any) -> None:
        self._browser = browser
        self._free: dict[str, list[Any]] = defaultdict(list)

    def take(self, options: Mapping[str, Any]) -> Any:
        """A page in a context with these options, not used by anybody else."""
        free = self._free[repr(options)]
        return free.pop() if free else self._browser.new_context(**options).new_page()

    def give_back(self, page: Any, address: str, options: Mapping[str, Any]) -> None:
        context = page.context
        context.set_offline(False)
        context.unroute_all(behavior="ignoreErrors")
        for other in context.pages:
            if other != page:
                other.close()
        if page.is_closed():
            page = context.new_page()
        page.unroute_all(behavior="ignoreErrors")
        forget_everybody(page, address)
        self._free[repr(options)].append(page)


@pytest.fixture(scope="package")  # not for the session: while the driver lives, asyncio.run is refused
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        skip_or_fail("no Chromium on this machine")
    from playwright import sync_api as playwright

    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def windows(browser: Any) -> Windows:
    return Windows(browser)


@pytest.fixture(scope="package")
def server(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Many plain pairs, each to be judged once."""
    items = [make_item(f"i{n}", f"one **{n}**", f"two {n}") for n in range(700)]
    server = Server(tmp_path_factory.mktemp("pairs"), items, "queue.overlap=1")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def window(windows: Windows) -> Iterator[Callable[..., Any]]:
    """Gives a page; `address`: where it is left afterwards, at the origin that the test uses."""
    taken: list[tuple[Any, str, Mapping[str, Any]]] = []

    def take(address: str, **options: Any) -> Any:
        options = {"viewport": {"width": 1280, "height": 800}, **options}
        taken.append((windows.take(options), address, options))
        return taken[-1][0]

    yield take
    for page, address, options in taken:
        windows.give_back(page, address, options)


@pytest.fixture
def opened(window: Callable[..., Any]) -> Iterator[Callable[..., Reader]]:
    """Opens a page of somebody at a server; the options are a browser context's."""
    readers: list[Reader] = []

    def open_page(server: Server, name: str | None = None, path: str = "/label/", **options: Any) -> Reader:
        reader = Reader(window(f"{server.url}/login", **options), server, name or server.somebody())
        readers.append(reader)
        reader.log_in(path)
        return reader

    yield open_page
    for reader in readers:
        reader.leave()


@pytest.fixture
def reader(server: Server, opened: Callable[..., Reader]) -> Iterator[Reader]:
    """Somebody new at the common server; nothing may leave it, and no script may fail."""
    reader = opened(server)
    yield reader
    assert reader.foreign == []
    assert reader.problems == []
