"""The card outside `serve`: in a notebook's frame, in a script, in a Space, in somebody's application."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from tests.annotate.browser.conftest import HURRY, Reader, Server, requests_of, see
from tests.annotate.browser.corpus import CORPUS, SEEN, as_stored, pairs
from tests.annotate.browser.programs import DOCUMENTED, Program, answer, prompt, ready, sent, served, stored
from tests.annotate.browser.test_accessibility import violations
from tests.annotate.conftest import make_item
from workbench.data.readers import write_records
from workbench.serve.http import listen, make_server

pytestmark = pytest.mark.slow

SERVED = "\nimport uvicorn\n\nuvicorn.run(app, port=PORT, log_level='warning')\n"
APPLICATION = """
import gradio as gr
import uvicorn
from fastapi import FastAPI, Request
from annotate.config import PageSection
from annotate.web.card import PreferenceCard

def heard(event: gr.EventData):
    return f"{event.choice} {event.strength} revision {event.revision}"

def user(request: Request):
    return request.cookies.get("who")

with gr.Blocks() as tools:
    gr.Textbox(label="Notes", elem_id="notes")
    left = PreferenceCard("left.sqlite", items="pairs.jsonl", title="Left", height=560, elem_id="one")
    last = gr.Textbox(label="Last answer", elem_id="last")
    left.answered(heard, None, last)
    page = PageSection(rubric=("honest",))
    PreferenceCard("right.sqlite", items="pairs.jsonl", title="Right", page=page, height=560, elem_id="two")

app = FastAPI()

@app.get("/")
def home():
    return {"an": "application"}

app = gr.mount_gradio_app(app, tools, path="/tools", auth_dependency=user)
uvicorn.run(app, port=PORT, log_level="warning")
"""


@pytest.fixture(scope="module")
def script(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """The documented cell as a script: first the rendering corpus, two texts an item, then plain pairs."""
    items = [item.model_copy(update={"priority": 100 + item.priority}) for item in pairs()]
    program = Program(tmp_path_factory.mktemp("script"), DOCUMENTED[0], items)
    yield program
    program.stop()


@pytest.fixture(scope="module")
def documented(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """The documented application."""
    program = Program(tmp_path_factory.mktemp("documented"), DOCUMENTED[1] + SERVED)
    yield program
    program.stop()


@pytest.fixture
def application(browser: Any, tmp_path: Path) -> Iterator[Program]:
    """An application with two cards."""
    program = Program(tmp_path, APPLICATION)
    yield program
    program.stop()


@pytest.fixture
def page(window: Callable[..., Any]) -> Iterator[Any]:
    page = window("about:blank")
    problems: list[str] = []

    def note(error: Any) -> None:
        problems.append(str(error))

    page.on("pageerror", note)
    yield page
    page.remove_listener("pageerror", note)
    page.evaluate("() => localStorage.clear()")
    assert problems == []


def log_in(page: Any, application: Program, name: str) -> None:
    page.context.add_cookies([{"name": "who", "value": name, "url": f"http://localhost:{application.port}"}])


def test_the_rendering_corpus_in_a_notebooks_card(page: Any, script: Program) -> None:
    """What `test_rendering` sees on the page of `serve`, in the card of a script."""
    page.goto(f"http://localhost:{script.port}/")
    ready(page)
    page.evaluate(HURRY)
    for start in range(0, len(CORPUS) - 1, 2):
        assert prompt(page) == f"Question c{start}?"
        expected = sorted(map(as_stored, CORPUS[start : start + 2]))
        seen = page.evaluate(SEEN)
        assert sorted(box["text"] for box in seen) == expected
        assert [box["hidden"] for box in seen] == [[], []]
        assert [box["wide"] for box in seen] == [False, False], start
        answer(page, page, "x")
    assert page.evaluate("() => document.querySelectorAll('#answers :is(img,script,iframe,form,a)').length") == 0


def test_a_plain_script(page: Any, script: Program) -> None:
    page.goto(f"http://localhost:{script.port}/")
    ready(page)
    before = len(stored(script))
    for key in "26":
        answer(page, page, key)
    sent(page)
    assert stored(script)[before:] == [("local", -2), ("local", 2)]
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    assert violations(page, "#annotate") == []  # Gradio's own footer has some
    assert page.is_hidden("#lead")  # no other page of ours is here
    assert page.is_hidden("#leave")
    page.reload()
    ready(page)
    page.keyboard.press("u")
    page.wait_for_function("() => document.querySelector('#saved').textContent.startsWith('Undone')")


def test_a_frame_as_in_a_notebook(page: Any, script: Program, tmp_path: Path) -> None:
    """Jupyter shows Gradio's page in a frame of its own origin, half a screen high."""
    frame_tag = f'<iframe src="http://127.0.0.1:{script.port}/" width="100%" height="500"></iframe>'
    (tmp_path / "notebook.html").write_text(f"<!doctype html><h1>Notebook</h1>{frame_tag}", encoding="utf-8")
    with served(tmp_path) as port:
        page.goto(f"http://localhost:{port}/notebook.html")
        frame = page.frames[1]
        ready(frame)
        page.frame_locator("iframe").locator("#prompt").click()
        before = len(stored(script))
        assert "keep nothing" in frame.text_content("#notice")  # this browser gives frames of other sites no storage
        answer(page, frame, "7")
        frame.wait_for_function("() => document.querySelector('#saved').textContent.startsWith('Saved')")
        assert stored(script)[before:] == [("local", 3)]
        box = page.frame_locator("iframe").locator("#choices").bounding_box()
        shown = page.locator("iframe").bounding_box()
        assert box["y"] + box["height"] <= shown["y"] + shown["height"] + 1  # the answers' keys are in view


@pytest.fixture
def space(browser: Any, tmp_path: Path) -> Iterator[int]:
    """The port of a card as it runs in a Space: at a public name, in a frame of another site, for one annotator."""
    write_records(tmp_path / "pairs.jsonl", [make_item(f"i{n}") for n in range(9)])

    async def build() -> Any:
        import gradio as gr

        from annotate.web.card import PreferenceCard

        with gr.Blocks() as demo:
            PreferenceCard(tmp_path / "labels.sqlite", items=tmp_path / "pairs.jsonl", annotator="ann")
        return gr.mount_gradio_app(FastAPI(), demo, path="/")

    with ThreadPoolExecutor(1) as thread:  # playwright's loop runs in this one
        server = make_server(thread.submit(lambda: asyncio.run(build())).result(), drain_seconds=0)
    listener = listen("127.0.0.1", 0)
    serving = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    serving.start()
    yield int(listener.getsockname()[1])
    server.should_exit = True
    serving.join()


def test_a_space(page: Any, space: int, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    frame_tag = f'<iframe src="http://team-labels.hf.space:{space}/" width="100%" height="700"></iframe>'
    (site / "space.html").write_text(frame_tag, encoding="utf-8")
    with served(site) as port:
        page.goto(f"http://localhost:{port}/space.html")
        frame = page.frames[1]
        ready(frame)
        page.frame_locator("iframe").locator("#prompt").click()
        answer(page, frame, "6")
        frame.wait_for_function("() => document.querySelector('#saved').textContent.startsWith('Saved')")
    assert stored(tmp_path) == [("ann", 2)]


def test_two_cards_beside_other_things(page: Any, application: Program) -> None:
    log_in(page, application, "ann")
    page.goto(f"http://localhost:{application.port}/tools/")
    for within in ("#one", "#two"):
        ready(page, within)
    page.fill("#notes textarea", "")
    page.click("#notes textarea")
    page.keyboard.type("2 answers, 7 notes")  # keys of a field are none of ours
    assert page.input_value("#notes textarea") == "2 answers, 7 notes"
    page.locator("#one .prompt").click()
    answer(page, page, "1", "#one")
    page.wait_for_function("() => document.querySelector('#last textarea').value === 'compared -3 revision 1'")
    second = prompt(page, "#two")
    page.locator("#two .prompt").hover()
    page.evaluate("() => document.activeElement.blur()")
    page.keyboard.press("6")  # the card that was pointed at last: overall, then honest
    page.keyboard.press("5")
    assert prompt(page, "#two") == second
    answer(page, page, "Enter", "#two")
    sent(page)
    assert stored(application, "left") == [("ann", -3)]
    assert stored(application, "right") == [("ann", 2)]
    assert page.text_content("#one .bar h1") == "Left"
    assert page.text_content("#two .bar h1") == "Right"
    ids = page.evaluate("() => [...document.querySelectorAll('[id]')].map(element => element.id)")
    assert len(set(ids)) == len(ids)  # whichever card came to life first


def test_what_went_wrong_is_told_apart(page: Any, documented: Program) -> None:
    """Refused (409), logged out (401), an error of the server (5xx) and no server: only the first drops the answer."""
    log_in(page, documented, "bea")
    page.goto(f"http://localhost:{documented.port}/tools/")
    ready(page)
    see(page, "#annotate[data-ahead='5']")
    page.locator("#prompt").click()
    notice = page.locator("#notice")

    def waits() -> int:
        names = page.evaluate("() => Object.keys(localStorage).filter(name => name.startsWith('annotate.outbox.'))")
        return len(names)

    def heard(words: str) -> None:
        page.wait_for_function(
            "words => document.querySelector('#notice').textContent.includes(words)", arg=words, timeout=20_000
        )
        assert notice.is_visible()

    page.route(requests_of("submit"), lambda route: route.fulfill(status=503, body="proxy"), times=1)
    answer(page, page, "1")
    heard("error (status 503)")
    sent(page)
    page.context.clear_cookies()  # the application's own answer: 401
    answer(page, page, "2")
    heard("no longer logged in")
    assert waits() == 1
    log_in(page, documented, "bea")
    sent(page)
    page.route(requests_of("submit"), lambda route: route.fulfill(status=409, json={"detail": "for a test"}), times=1)
    answer(page, page, "5")
    heard("was not accepted: for a test")
    assert waits() == 0
    documented.stop()
    answer(page, page, "3")
    heard("No connection")
    assert waits() == 1
    documented.start()
    page.evaluate("() => dispatchEvent(new Event('online'))")  # now, not when its time has come
    sent(page)
    assert [strength for name, strength in stored(documented) if name == "bea"] == [-3, -2, -1]


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Ports of two sites with the same pages."""
    (tmp_path / "site").mkdir()
    with served(tmp_path / "site") as friend, served(tmp_path / "site") as stranger:
        yield friend, stranger


@pytest.fixture
def embedded(browser: Any, sites: tuple[int, int], tmp_path: Path) -> Iterator[Server]:
    """A server whose page may stand in pages of the first site; both sites have one with it."""
    folder = tmp_path / "serve"
    folder.mkdir()
    server = Server(folder, [make_item("one")], f'server.embed_in=["http://127.0.0.1:{sites[0]}"]')
    (tmp_path / "site/wiki.html").write_text(f'<iframe src="{server.url}/label/" width=900 height=600></iframe>')
    server.start()
    yield server
    server.kill()


def test_pages_that_may_embed_and_pages_that_may_not(
    embedded: Server, sites: tuple[int, int], opened: Callable[..., Reader]
) -> None:
    """Same site, other port: cookies go along. `server.embed_in` names one of two origins."""
    reader = opened(embedded)
    for port, shown in zip(sites, (True, False), strict=True):
        refusals: list[str] = []
        page = reader.page.context.new_page()
        page.on("console", lambda message, refusals=refusals: refusals.append(message.text))
        page.goto(f"http://127.0.0.1:{port}/wiki.html")
        if shown:
            ready(page.frames[1])
            assert "Question one?" in prompt(page.frames[1])
            assert refusals == [] or not any("frame-ancestors" in text for text in refusals)
        else:
            page.wait_for_timeout(500)
            assert page.frames[1].query_selector("#annotate") is None
            assert any("frame-ancestors" in text for text in refusals)


def test_the_documented_application(page: Any, documented: Program) -> None:
    log_in(page, documented, "ann")
    page.goto(f"http://localhost:{documented.port}/tools/")
    ready(page)
    page.locator("#prompt").click()
    answer(page, page, "6")
    heard = page.get_by_label("Last answer")
    page.wait_for_function(
        "() => [...document.querySelectorAll('textarea')].some(one => /^item \\d+: compared, 2$/.test(one.value))"
    )
    assert heard.count() == 1
    assert [strength for name, strength in stored(documented) if name == "ann"] == [2]
