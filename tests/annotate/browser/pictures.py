"""Makes the pictures of the labelling page in docs/images: python -m tests.annotate.browser.pictures [NAME …]

Texts and people are invented. The reward report's picture is not made here.
"""

import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from annotate.config import QueueSection
from annotate.people.accounts import add_account
from annotate.queue.rules import Card, Queue, Submission
from annotate.store.database import Store
from tests.annotate.arena.conftest import FAKE_WORKER
from tests.annotate.browser import pictured as texts
from tests.annotate.browser.arena import Player
from tests.annotate.browser.conftest import CHROMIUM, FLAGS, LEAD, PASSWORD, ROOT, Reader, Server, see
from tests.annotate.browser.programs import DOCUMENTED, Program, ready, served
from tests.annotate.browser.test_arena_page import ArenaServer
from tests.annotate.browser.test_marks import SELECT
from workbench.data.records import Item
from workbench.serve import engine

PEOPLE = ("ann", "bea", "cem", "dee", "eve")
MONDAY = 1_795_424_400.0
"""2026-11-23, 9:00 UTC."""
IMAGES = ROOT / "docs/images"
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
RUBRIC = 'page.rubric=["helpful","honest","harmless"]'
REASONS = 'page.reasons=["wrong fact","incomplete","off topic","unsafe"]'


class Studio:
    """A browser, and where the pictures go."""

    def __init__(self, browser: Any, folder: Path) -> None:
        self._browser, self._folder = browser, folder

    @contextmanager
    def serving(self, items: Sequence[Item], *options: str, kind: type[Server] = Server) -> Iterator[Server]:
        """A server with accounts of a few people and of the lead."""
        kind.people = 0
        server = kind(Path(tempfile.mkdtemp(dir=self._folder)), items, *options)
        store = Store.open(server.store)
        for name in PEOPLE:
            add_account(store, name, "annotator", PASSWORD)
        store.close()
        server.start()
        try:
            yield server
        finally:
            server.kill()

    def page(self, **options: Any) -> Any:
        return self._browser.new_context(**{"viewport": DESKTOP, **options}).new_page()

    def reader(self, server: Server, name: str = "ann", path: str = "/label/", **options: Any) -> Reader:
        reader = Reader(self.page(**options), server, name)
        reader.log_in(path)
        return reader


def shoot(page: Any, name: str, **more: Any) -> None:
    page.wait_for_timeout(300)  # fonts and transitions
    page.screenshot(path=IMAGES / f"{name}.png", **more)
    print(IMAGES / f"{name}.png")


def desktop(studio: Studio) -> None:
    with studio.serving(texts.help_desk(30), "queue.overlap=1") as server:
        shoot(studio.reader(server).page, "annotate-desktop")


def phone(studio: Studio) -> None:
    with studio.serving(texts.help_desk(30), "queue.overlap=1") as server:
        shoot(studio.reader(server, **PHONE).page, "annotate-phone")


def dark(studio: Studio) -> None:
    """Four answers to rank."""
    with studio.serving([texts.four()], "queue.compare=ranking", "page.guidelines=null") as server:
        reader = studio.reader(server, color_scheme="dark")
        for beginning in ("Nine days", "About a week"):
            texts_shown = reader.page.locator("#answers .text").all_text_contents()
            reader.press(str(1 + next(at for at, text in enumerate(texts_shown) if text.startswith(beginning))))
        shoot(reader.page, "annotate-dark")


def long(studio: Studio) -> None:
    """In the middle of two answers of 3,000 words, with the differences marked."""
    with studio.serving([texts.long_pair()], "page.guidelines=null", "page.must_see=true") as server:
        reader = studio.reader(server)
        reader.press("v", "PageDown", "PageDown", "PageDown")
        shoot(reader.page, "annotate-long")


def turns(studio: Studio) -> None:
    with studio.serving([texts.conversation()], "page.guidelines=null") as server:
        shoot(studio.reader(server).page, "annotate-turns")


def rubric(studio: Studio) -> None:
    with studio.serving(texts.help_desk(5), RUBRIC, "page.guidelines=null") as server:
        reader = studio.reader(server)
        reader.press("6", "5")
        shoot(reader.page, "annotate-rubric")


def table(studio: Studio) -> None:
    """A table that is wider than its card, beside code."""
    with studio.serving([texts.wide_table()], "page.guidelines=null") as server:
        shoot(studio.reader(server).page, "annotate-table")


def marks(studio: Studio) -> None:
    with studio.serving([texts.math()], REASONS, "page.guidelines=null") as server:
        reader = studio.reader(server)
        page = reader.page
        reader.press("r")
        reader.see(".typeset .katex")
        answers = page.locator("#answers .answer > .text").all_text_contents()
        code = next(at for at, text in enumerate(answers) if "def area" in text)
        page.evaluate(SELECT, [code, "radius", "float"])
        reader.press("Shift+Digit1")
        page.evaluate(SELECT, [1 - code, "so the", "area"])
        reader.press("Shift+Digit2")
        reader.press("Shift+Digit3")
        shoot(page, "annotate-marks")


def lead(studio: Studio) -> None:
    """The lead's pages after a week of five people."""
    with studio.serving(texts.help_desk(240), "queue.overlap=3", "queue.overlap_share=0.6") as server:
        _week(server)
        page = studio.reader(server, LEAD, "/lead").page
        shoot(page, "lead-desktop", full_page=True)
        page.goto(f"{server.url}/lead/people")
        shoot(page, "lead-people")
        page.goto(f"{server.url}/lead/items")
        see(page, "#answers .text")
        shoot(page, "lead-review")
        shoot(studio.reader(server, LEAD, "/lead", color_scheme="dark").page, "lead-dark", full_page=True)
        shoot(studio.reader(server, LEAD, "/lead", **PHONE).page, "lead-phone")


def _week(server: Server) -> None:
    """Judgements of five people; the last of them guesses more often."""
    draw, now = random.Random(0), [MONDAY]
    store = Store.open(server.store)
    queue = Queue(store, QueueSection(overlap=3, overlap_share=0.6, lease_seconds=900), clock=lambda: now[0])
    with store.read() as transaction:
        people = [transaction.annotator(name) for name in PEOPLE]
    for day in range(5):
        now[0] = MONDAY + day * 86_400
        for number in range(105):
            who = people[draw.randrange(5)]
            assert who is not None
            card = queue.next(who)
            if not isinstance(card, Card):
                continue
            seconds = draw.lognormvariate(3.2, 0.4)
            now[0] += seconds / 3
            better = 2 if texts.is_right(card.answers[1].text) else -2
            guess = draw.random() < (0.35 if who.name == PEOPLE[-1] else 0.12)
            strength = draw.randint(-3, 3) if guess else better + draw.choice((-1, 0, 1))
            key = f"{who.name}-{day}-{number}-key"
            queue.submit(who, Submission(card.item, "compared", key, strength=strength, seconds=seconds))
    store.close()


class PicturedArena(ArenaServer):
    """Two runs with names that say something."""

    runs = ("runs/demo/sft", "runs/demo/ppo")


def arena(studio: Studio) -> None:
    answers = Path(tempfile.mkdtemp()) / "answers.json"
    answers.write_text(json.dumps(texts.ANSWERS), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "COMMAND", (sys.executable, str(FAKE_WORKER), str(answers)))
        with studio.serving(texts.help_desk(1), kind=PicturedArena) as server:
            server.somebody = lambda: "ann"  # type: ignore[method-assign]
            player = Player(studio.page(), server)
            for question in texts.ANSWERS:
                player.say(question)
                lengths = [len(text) for text in player.answered()]
                better = lengths.index(max(lengths))
                player.page.check(f"[name=keep][value='{better}']")
            player.press("Escape", "26"[better])
            shoot(player.page, "arena")


def notebook(studio: Studio) -> None:
    """The documented cell, and the card in a frame below it, as notebooks show it."""
    folder = Path(tempfile.mkdtemp())
    program = Program(folder, DOCUMENTED[0], texts.help_desk(20))
    try:
        (folder / "notebook.html").write_text(texts.notebook(DOCUMENTED[0], program.port), encoding="utf-8")
        with served(folder) as port:
            page = studio.page()
            page.goto(f"http://localhost:{port}/notebook.html")
            ready(page.frames[1])
            page.frame_locator("iframe").locator("#prompt").click()
            shoot(page, "annotate-notebook")
    finally:
        program.stop()


PICTURES: dict[str, Callable[[Studio], None]] = {
    picture.__name__: picture
    for picture in (desktop, phone, dark, long, turns, rubric, table, marks, lead, arena, notebook)
}


def main(names: Sequence[str]) -> None:
    from playwright import sync_api as playwright

    with playwright.sync_playwright() as driver, tempfile.TemporaryDirectory() as folder:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for name in names or PICTURES:
            PICTURES[name](Studio(browser, Path(folder)))
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1:])
