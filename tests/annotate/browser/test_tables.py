"""The lead's tables in a browser: sorting, searching, picking a row, plots, a download, a file with a bad line."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.annotate.browser.conftest import LEAD, Reader, Server, judge
from tests.annotate.browser.test_accessibility import violations
from tests.annotate.conftest import make_item

pytestmark = pytest.mark.slow
EVIL = '<img src=x onerror="document.title=1"> **bold** [link](javascript:alert(1))'


@pytest.fixture(scope="module")
def judged(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    items = [make_item(f"i{n}") for n in range(39)] + [make_item("evil", prompt=[{"role": "user", "content": EVIL}])]
    server = Server(tmp_path_factory.mktemp("judged"), items, "queue.overlap=1")
    server.start()
    yield server
    server.kill()


SORTED = """names => {
  const table = document.querySelector('.table-wrap');
  const cells = [...table.querySelectorAll("[data-testid^=cell-][data-testid$='-0'] span")];
  return cells.map(cell => cell.textContent).join() === names.join();
}"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of pandas, in Gradio's plots
def test_the_tables(judged: Server, opened: Callable[..., Reader]) -> None:
    judge(judged, "p1", -3, 3)
    judge(judged, "p2", 0)
    lead = opened(judged, LEAD, path="/lead")
    page = lead.page

    def seen(text: str, *, exact: bool = False) -> None:
        page.get_by_text(text, exact=exact).locator("visible=true").first.wait_for()

    page.click("nav >> text=Tables")
    table = page.locator(".table-wrap").first
    names = table.locator("[data-testid^=cell-][data-testid$='-0'] span")
    names.first.wait_for(timeout=30_000)
    assert names.all_text_contents() == ["p1", "p2"]
    assert violations(page) == []
    table.locator("[data-testid=header-1]").click()
    table.locator("[data-testid=header-1] .cell-menu-button").click()
    page.get_by_text("Sort ascending").click()
    page.wait_for_function(SORTED, arg=["p2", "p1"])
    names.first.click()
    page.get_by_text("Answers of p2").wait_for()
    seen("equal", exact=True)

    page.get_by_role("tab", name="Items", exact=True).click()
    page.get_by_text("40 of 40 items").wait_for()
    page.get_by_label("Words in the prompt").fill("BOLD link")
    page.get_by_role("button", name="Search").click()
    page.get_by_text("1 of 1 items").wait_for()
    seen("<img src=x")  # as text
    assert page.title() != "1"
    assert page.locator("tbody img").count() == 0

    assert violations(page) == []

    page.get_by_role("tab", name="Progress").click()
    page.locator("canvas, svg.marks").first.wait_for()
    seen("Raw agreement, ties count")
    assert violations(page) == []
    assert lead.foreign == []
    assert lead.problems == []


def test_a_download_and_a_file_with_a_bad_line(judged: Server, opened: Callable[..., Reader], tmp_path: Path) -> None:
    judge(judged, "p4", -2)
    lead = opened(judged, LEAD, path="/lead/tables/")
    page = lead.page
    page.get_by_role("tab", name="Export").click()
    page.get_by_role("button", name="Prepare the file").click()
    page.get_by_text("records are ready.").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert 2 in [json.loads(line)["strength"] for line in lines]

    page.get_by_role("tab", name="Load items").click()
    bad = tmp_path / "items.jsonl"
    bad.write_text('{"prompt": "Q?", "response_a": "x", "response_b": "y"}\n{"prompt": "Q?"', encoding="utf-8")
    page.locator("input[type=file]").last.set_input_files(bad)  # tables have one, too
    page.get_by_text("items.jsonl").or_(page.get_by_text("items")).locator("visible=true").first.wait_for()
    page.get_by_role("button", name="Load items").click()
    result = page.get_by_label("Result")
    page.wait_for_function("() => [...document.querySelectorAll('textarea')].some(t => t.value.includes('line 2'))")
    assert str(tmp_path) not in result.input_value()
    assert lead.foreign == []
    assert lead.problems == []


def test_reviewers_see_them_and_annotators_do_not(judged: Server, opened: Callable[..., Reader]) -> None:
    reader = opened(judged, "p3")  # the account is a real one: it labels
    reply = reader.page.goto(f"{judged.url}/lead/tables/")
    assert reply.status == 403
