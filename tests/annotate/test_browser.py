"""The page in a real browser: keyboard, undo, reload, a server that goes away. Skipped where there is no Chromium."""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.annotate.conftest import make_item
from workbench.data.readers import write_records

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
ROOT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]


class Server:
    """`python -m annotate serve` on a free port, over one store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "annotate", "serve", str(ROOT / "configs/tiny/annotate.yaml")]
        command += [f"pairs.out={self.folder / 'items.jsonl'}", f"store.url={self.folder / 'labels.sqlite'}"]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen([*command, f"server.port={self.port}"], cwd=ROOT, stdout=log, stderr=log)
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{self.url}/assets/card.js", timeout=1).close()
                return
            except OSError:
                assert self.process.poll() is None, (self.folder / "server.log").read_text()
                time.sleep(0.25)
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def judgements(self) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.folder / "labels.sqlite")
        rows = connection.execute("SELECT item, revision, choice, strength FROM judgement ORDER BY id").fetchall()
        connection.close()
        return rows


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("labels")
    hostile = "<img src=x onerror=\"document.title='ran'\"> ${document.title='ran'} **bold** List<String> tail"
    items = [make_item("i0", hostile), *(make_item(f"i{n}", f"one {n}", f"two {n}") for n in range(1, 60))]
    write_records(folder / "items.jsonl", items)
    server = Server(folder)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.foreign, page.problems = [], []
    page.on("request", lambda r: page.foreign.append(r.url) if not r.url.startswith((server.url, "data:")) else None)
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    _open(page, server)
    yield page
    context.close()


def _open(page: Any, server: Server) -> None:
    page.goto(f"{server.url}/label/")
    _ready(page)


def _ready(page: Any) -> None:
    page.wait_for_selector("#annotate[aria-busy=false]", timeout=30_000)


def _prompt(page: Any) -> str:
    return str(page.text_content("#prompt .turn:last-child .text")).strip()


def _press(page: Any, key: str) -> None:
    before = page.text_content("#prompt")
    page.keyboard.press(key)
    page.wait_for_function(
        "before => document.getElementById('prompt').textContent !== before && "
        "document.getElementById('annotate').getAttribute('aria-busy') === 'false'",
        arg=before,
    )


def test_label_by_keyboard_undo_and_reload(page: Any, server: Server) -> None:
    assert "List<String> tail" in page.text_content(".answers")
    assert page.locator(".answers strong").text_content() == "bold"
    for key in "1234567":
        _press(page, key)
    for key in ("x", "s", "t"):
        _press(page, key)
    choices = [row[2] for row in server.judgements()]
    assert choices == ["compared"] * 7 + ["both_bad", "skipped", "compared"]
    assert sorted(abs(row[3]) for row in server.judgements()[:7]) == [0, 1, 1, 2, 2, 3, 3]

    ninth = _prompt(page)
    _press(page, "u")
    assert _prompt(page) == "Question i9?"
    assert "before" in page.get_attribute("#choices [data-strength='0']", "class")
    page.reload()
    _ready(page)
    assert _prompt(page) == "Question i9?"
    _press(page, "6")
    assert _prompt(page) == ninth
    assert [row[2] for row in server.judgements()[10:]] == ["withdrawn", "compared"]
    assert "9 labelled" in page.text_content("#count")
    assert page.title() == "Which answer is better?"  # nothing in an answer ran
    assert page.foreign == []
    assert page.problems == []


def test_eight_clicks_in_one_tick_are_one_judgement(page: Any, server: Server) -> None:
    before, prompt = server.judgements(), _prompt(page)
    page.evaluate(
        "() => { const b = document.querySelector('[data-strength=\"1\"]'); for (let i = 0; i < 8; i++) b.click() }"
    )
    page.wait_for_function("before => !document.getElementById('prompt').textContent.includes(before)", arg=prompt)
    _ready(page)
    page.wait_for_timeout(200)
    assert len(server.judgements()) == len(before) + 1


def test_views_help_and_switching_the_keys_off(page: Any, server: Server) -> None:
    before = server.judgements()
    page.keyboard.press("r")
    assert page.locator(".answers .text.source").count() == 2
    page.keyboard.press("r")
    assert page.locator(".answers .text.source").count() == 0
    page.keyboard.press("d")
    assert page.evaluate("() => document.body.classList.contains('dark')")
    page.keyboard.press("Control+4")
    page.keyboard.press("?")
    page.wait_for_selector("#help[open]")
    page.keyboard.press("3")  # behind the help, keys are silent
    page.uncheck("#keys-on")
    page.keyboard.press("Escape")
    page.keyboard.press("3")
    page.wait_for_timeout(300)
    assert server.judgements() == before


def test_phone_width(browser: Any, server: Server) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    page = context.new_page()
    _open(page, server)
    before = server.judgements()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    left, right = page.locator(".answer.left").bounding_box(), page.locator(".answer.right").bounding_box()
    assert right["y"] >= left["y"] + left["height"]  # stacked
    for button in page.locator("#choices button").all():
        box = button.bounding_box()
        assert box["width"] >= 40
        assert box["height"] >= 40
    page.tap("[data-strength='2']")
    page.wait_for_selector("#saved:not(:empty)")
    assert len(server.judgements()) == len(before) + 1
    context.close()


def test_an_answer_survives_a_killed_server(page: Any, server: Server) -> None:
    before = server.judgements()
    _press(page, "2")
    server.kill()
    page.keyboard.press("7")
    page.wait_for_selector("#notice:not([hidden])")
    assert "1 answer is kept in this browser" in page.text_content("#notice")
    assert page.evaluate("() => JSON.parse(localStorage.getItem('annotate.outbox.local')).length") == 1
    server.start()
    page.wait_for_selector("#notice", state="hidden", timeout=40_000)
    _ready(page)
    assert page.evaluate("() => localStorage.getItem('annotate.outbox.local')") == "[]"
    first, second = server.judgements()[len(before) :]
    assert first[0] != second[0]
    assert {abs(first[3]), abs(second[3])} == {2, 3}
