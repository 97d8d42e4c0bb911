"""The lead's pages through HTTP: what they show, what they change, and whom they refuse."""

import json
from collections.abc import Callable
from html.parser import HTMLParser

import pytest
from fastapi.testclient import TestClient

from annotate.campaign.scores import EVENT
from annotate.campaign.start import start
from annotate.config import CampaignSection, QueueSection
from annotate.intake.items import load_items
from annotate.labels.notices import put_notice
from annotate.people.accounts import set_state
from annotate.queue.rules import Card, Queue, Submission
from annotate.store.database import Store
from annotate.store.statements import Annotator
from tests.annotate.conftest import make_item
from workbench.data.records import Message, Preference, Prompt


@pytest.fixture
def labelled(filled: Store) -> Store:
    """Ann and Bea judge 12 items; on every third they prefer different answers; one text is awkward."""
    items = [make_item(f"m{n}", "<b>first</b> ${answer}" if n == 0 else "first answer") for n in range(12)]
    load_items(filled, items, QueueSection(overlap=2, overlap_share=1, priority=5))
    queue = Queue(filled, QueueSection(lease_seconds=60))
    for name in ("ann", "bea"):
        who = _account(filled, name)
        for _ in range(12):
            card = queue.next(who)
            assert isinstance(card, Card)
            own = 2 if name == "ann" or int(card.item_id[1:]) % 3 else -3
            shown = -own if card.left.text == "second answer" else own
            more = {"comment": "not sure", "flag": "unsafe"} if card.item_id == "m4" and name == "bea" else {}
            key = f"{name}-{card.item_id}-key"
            submission = Submission(card.item, "compared", key, strength=shown, seconds=20.0, **more)  # type: ignore[arg-type]
            queue.submit(who, submission)
    return filled


def _account(store: Store, name: str) -> Annotator:
    with store.read() as transaction:
        found = transaction.annotator(name)
    assert found is not None
    return found


def _key(store: Store, item_id: str) -> int:
    with store.read() as transaction:
        return next(item.id for item in transaction.items() if item.item_id == item_id)


def test_without_a_login_the_browser_is_sent_to_the_form_and_annotators_are_refused(
    client: TestClient, log_in: Callable[..., None]
) -> None:
    reply = client.get("/lead")
    assert (reply.status_code, reply.headers["refresh"]) == (401, "0; url=/login")
    log_in("ann")
    assert client.get("/lead").status_code == client.get("/lead/people").status_code == 403
    log_in("rev")
    assert client.get("/lead").status_code == 200
    assert client.post("/lead/people/ann", data={"state": "removed"}).status_code == 403


def test_the_overview_shows_notices_of_runs(filled: Store, client: TestClient, log_in: Callable[..., None]) -> None:
    log_in("lead")
    assert "Messages from training runs" not in client.get("/lead").text
    with filled.write() as transaction:
        put_notice(transaction, "demo/ppo", "paused <b>now</b>")
    page = client.get("/lead").text
    assert "Messages from training runs" in page
    assert "demo/ppo" in page
    assert "paused &lt;b&gt;now&lt;/b&gt;" in page


def test_the_overview_shows_progress_agreement_and_people(
    labelled: Store, client: TestClient, log_in: Callable[..., None]
) -> None:
    log_in("lead")
    page = client.get("/lead").text
    assert "<b>24</b>" in page
    assert "of 29 judgements wanted" in page  # 12 items twice, 5 of the fixture once
    assert "undefined" not in page.split('id="annotators"')[0].split("Raw agreement, ties count")[1].split("</tr>")[0]
    assert page.count('scope="row"') >= 7 + 2
    for name in ("ann", "bea"):
        assert f"/lead/people/{name}?state=removed" in page
    assert "Which &lt;b&gt;?" in page
    assert "runs/one" not in page


class _Texts(HTMLParser):
    """The texts of a page's elements of the class `text`."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.texts: list[str] = []
        self._depth, self._after_pre = 0, False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._depth:
            self._depth += 1
        elif ("class", "text") in attrs:
            self._depth = 1
            self.texts.append("")
        self._after_pre = tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        self._depth -= bool(self._depth)

    def handle_data(self, data: str) -> None:
        if self._depth:
            self.texts[-1] += data.removeprefix("\n") if self._after_pre else data
        self._after_pre = False


def test_the_reviewer_reads_what_the_annotators_read(
    filled: Store, client: TestClient, log_in: Callable[..., None]
) -> None:
    first = "live \u202eevil\u202c zero\u200bwidth\r\n\n```python\nif a < b:\n    <script>\n```\n\n**bold**"
    second = "| a | b |\n|---|---|\n| 1 | 2 |\n"
    load_items(filled, [make_item("odd", first, second)], QueueSection(overlap=2, overlap_share=1, priority=9))
    queue = Queue(filled, QueueSection(lease_seconds=60))
    card = queue.next(_account(filled, "ann"))
    assert isinstance(card, Card)
    assert card.item_id == "odd"
    queue.submit(_account(filled, "ann"), Submission(card.item, "compared", "a-good-key", strength=1, flag="unsafe"))
    log_in("rev")
    page = client.get("/lead/review").text
    parser = _Texts()
    parser.feed(page)
    assert parser.texts[-2:] == [first, second]
    for sign in ('data-label="RLO"', 'data-label="ZWSP"', 'data-label="CR"', "<td", "<strong", 'style="--indent: 4"'):
        assert sign in page
    assert "<script>\n" not in page


def test_a_reviewer_decides_and_the_export_follows(
    labelled: Store, client: TestClient, log_in: Callable[..., None]
) -> None:
    log_in("rev")
    page = client.get("/lead/review").text
    assert page.count('class="item"') == 5  # four on which they differ, one that is flagged
    assert "&lt;b&gt;first&lt;/b&gt; ${answer}" in page
    assert "not sure" in page
    assert "runs/one" not in page
    item = _key(labelled, "m0")
    reply = client.post(f"/lead/review/{item}", data={"verdict": "3", "comment": "B answers", "back": "page=1"})
    assert (reply.status_code, reply.headers["location"]) == (303, "/lead/review?page=1")
    assert client.get("/lead/review").text.count('class="item"') == 4
    assert "B answers" in client.get("/lead/review?show=decided").text
    record = next(record for record in _exported(client) if record.id == "m0")
    assert (record.chosen_text, record.strength, record.resolution) == ("second answer", 3, "adjudicated")
    client.post(f"/lead/review/{item}", data={"verdict": "withdrawn"})
    assert client.get("/lead/review").text.count('class="item"') == 5
    # Bea is sure and Ann is not, but votes count the same: a tie again, left out.
    assert "m0" not in {record.id for record in _exported(client)}


def _exported(client: TestClient, **choices: str) -> list[Preference]:
    reply = client.get("/api/v1/export/preferences", params=choices)
    assert reply.status_code == 200
    assert reply.headers["content-disposition"] == 'attachment; filename="preferences.jsonl"'
    return [Preference.model_validate(json.loads(line)) for line in reply.text.splitlines()]


@pytest.mark.parametrize("verdict", ["5", "maybe", "ranked", "--2"])
def test_verdicts_that_make_no_sense_are_refused(
    labelled: Store, client: TestClient, log_in: Callable[..., None], verdict: str
) -> None:
    log_in("rev")
    assert client.post(f"/lead/review/{_key(labelled, 'm0')}", data={"verdict": verdict}).status_code in (400, 409, 422)
    assert client.post("/lead/review/99999", data={"verdict": "1"}).status_code in (400, 404, 409, 422)
    with labelled.read() as transaction:
        assert transaction.adjudications() == {}


def test_a_decision_from_another_site_is_refused(
    labelled: Store, client: TestClient, log_in: Callable[..., None]
) -> None:
    log_in("rev")
    address = f"/lead/review/{_key(labelled, 'm0')}"
    foreign = client.post(address, data={"verdict": "1"}, headers={"Origin": "https://elsewhere.example"})
    assert foreign.status_code == 403
    assert client.post(address, data={"verdict": "1"}, headers={"Origin": "http://localhost"}).status_code == 303


def test_removing_somebody_is_previewed_then_done_then_undone(
    labelled: Store, client: TestClient, log_in: Callable[..., None]
) -> None:
    log_in("lead")
    preview = client.get("/lead/people/bea?state=removed").text
    # The four items that were ties become Ann's; nobody's choice turns.
    assert "4 would be new" in preview
    assert "0 records would be gone" in preview
    assert len(_exported(client)) == 8
    assert client.post("/lead/people/bea", data={"state": "removed"}).status_code == 303
    after = _exported(client)
    assert len(after) == 12
    assert {record.annotators for record in after} == {("ann",)}
    assert client.post("/lead/people/bea", data={"state": "active"}).status_code == 303
    assert len(_exported(client)) == 8
    client.post("/lead/people/bea", data={"state": "paused"})
    assert len(_exported(client)) == 8
    assert "paused" in client.get("/lead").text


def test_the_only_administrator_stays(labelled: Store, client: TestClient, log_in: Callable[..., None]) -> None:
    log_in("lead")
    reply = client.post("/lead/people/lead", data={"state": "removed"})
    assert reply.status_code == 409
    assert "only administrator" in reply.text
    assert client.get("/lead/people/nobody?state=paused").status_code == 404
    assert client.get("/lead/people/ann?state=gone").status_code == 422


def test_export_modes(labelled: Store, client: TestClient, log_in: Callable[..., None]) -> None:
    log_in("rev")
    assert len(_exported(client, resolve="single")) == 24
    assert len(_exported(client, ties="true")) == 12
    assert client.get("/api/v1/export/preferences?resolve=guess").status_code == 422
    weights = {record.weight for record in _exported(client, resolve="dawid-skene")}
    assert len(weights) > 1


def test_an_empty_store_has_pages_too(client: TestClient, filled: Store, log_in: Callable[..., None]) -> None:
    set_state(filled, "bea", "paused")
    log_in("lead")
    page = client.get("/lead").text
    assert "Nobody has judged anything yet" in page
    assert "no item has two judgements" in page
    assert "Nothing here" in client.get("/lead/review").text


def test_without_a_second_judgement_agreement_is_one_sentence(
    filled: Store, client: TestClient, log_in: Callable[..., None]
) -> None:
    log_in("lead")
    page = client.get("/lead").text
    assert "Undefined so far: no item has two judgements." in page
    assert "Raw agreement" not in page


def test_the_review_stays_with_the_simulated_annotators(
    filled: Store, client: TestClient, log_in: Callable[..., None]
) -> None:
    load_items(filled, [make_item(f"s{n}") for n in range(25)], QueueSection(overlap=2, overlap_share=1, priority=5))
    queue = Queue(filled, QueueSection(lease_seconds=60))
    for name, own in (("one", 2), ("other", -2)):
        with filled.write() as transaction:
            transaction.add_annotator(name, "annotator", 0.0, simulated=True)
        who = _account(filled, name)
        for _ in range(25):
            card = queue.next(who)
            assert isinstance(card, Card)
            shown = own if card.left.text == "first answer" else -own
            queue.submit(who, Submission(card.item, "compared", f"{name}-{card.item_id}-key", strength=shown))
    log_in("rev")
    assert 'href="/lead/review?who=simulated"' in client.get("/lead?who=simulated").text
    page = client.get("/lead/review?who=simulated").text
    assert page.count('class="item"') == 20
    assert 'href="?page=2&amp;show=open&amp;who=simulated"' in page
    assert client.get("/lead/review?page=2&show=open&who=simulated").text.count('class="item"') == 5
    back = "page=2&show=open&who=simulated"
    assert f'value="{back.replace("&", "&amp;")}"' in client.get(f"/lead/review?{back}").text
    reply = client.post(f"/lead/review/{_key(filled, 's0')}", data={"verdict": "1", "back": back})
    assert reply.headers["location"] == f"/lead/review?{back}"


def test_a_scored_campaign_shows_the_win_rate_with_and_without_the_reward_model(
    filled: Store, client: TestClient, log_in: Callable[..., None]
) -> None:
    section = CampaignSection(name="june", runs=("runs/one", "runs/two"), overlap=1, priority=9)
    asked = [Prompt(id=f"p{n}", prompt=(Message(role="user", content=f"Question {n}?"),)) for n in range(40)]
    start(filled, section, asked, lambda run, prompts: [f"{run} {prompt.id}" for prompt in prompts])
    queue, who = Queue(filled, QueueSection(lease_seconds=60)), _account(filled, "ann")
    for number in range(32):
        card = queue.next(who)
        assert isinstance(card, Card)
        queue.submit(who, Submission(card.item, "compared", f"campaign-{number:04}", strength=1 if number % 3 else -1))
    with filled.write() as transaction:
        scores = {item.item_id: [0.5, -0.5] for item in transaction.items() if item.campaign == "june"}
        transaction.add_event(EVENT, 0.0, name="june", run="runs/reward", scores=scores)
    log_in("rev")
    page = client.get("/lead").text
    assert "runs/one against runs/two, 32 of 40 prompts judged, with the scores of runs/reward" in page
    assert "valid at every look" in page
