"""The review through HTTP: the list and its filters, blind items, rulings, messages; and what annotators hear of it."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from annotate.config import QueueSection
from annotate.intake.items import load_items
from annotate.queue.rules import Card, Queue, Submission
from annotate.store.database import Store
from tests.annotate.conftest import PASSWORD, client_of, make_item

LogIn = Callable[..., None]


@pytest.fixture
def judged(filled: Store) -> Store:
    """Ann and Bea judge eight pairs: on m0 … m3 they differ, by less and less; Bea flags m4; m7 is of a campaign."""
    items = [
        make_item(f"m{n}", f"first answer {n}", prompt=[{"role": "user", "content": f"Zug {n}?"}]) for n in range(7)
    ]
    queue = QueueSection(overlap=2, overlap_share=1, priority=5)
    load_items(filled, items, queue)
    load_items(filled, [make_item("m7", "first answer 7")], queue, campaign="spring")
    own = {"ann": [3, 2, 2, 1, 1, 1, 1, 2], "bea": [-3, -3, -2, -1, 1, 2, 2, -2]}
    working = Queue(filled, QueueSection(lease_seconds=60))
    for name, strengths in own.items():
        with filled.read() as transaction:
            who = transaction.annotator(name)
        assert who is not None
        for _ in range(8):
            card = working.next(who)
            assert isinstance(card, Card)
            number = int(card.item_id[1:])
            shown = strengths[number] if card.left.text.startswith("first") else -strengths[number]
            more = {"flag": "unsafe", "comment": "a comment"} if (name, number) == ("bea", 4) else {}
            key = f"{name}-{card.item_id}-key"
            working.submit(who, Submission(card.item, "compared", key, strength=shown, **more))  # type: ignore[arg-type]
    return filled


def _ids(client: TestClient, **wanted: object) -> list[str]:
    reply = client.get("/lead/items/list", params=wanted)  # type: ignore[arg-type]
    assert reply.status_code == 200, reply.text
    assert reply.json()["total"] == len(reply.json()["rows"])
    return [row["id"] for row in reply.json()["rows"]]


def _key(store: Store, item_id: str) -> int:
    with store.read() as transaction:
        return next(item.id for item in transaction.items() if item.item_id == item_id)


def test_the_list_and_its_filters(judged: Store, client: TestClient, log_in: LogIn) -> None:
    log_in("rev")
    assert _ids(client) == ["m0", "m1", "m2", "m7", "m3", "m4"]  # furthest apart first, then the flagged one
    assert _ids(client, apart=5) == ["m0", "m1"]
    assert _ids(client, flag="unsafe") == ["m4"]
    assert _ids(client, flag="pii") == []
    assert _ids(client, campaign="spring") == ["m7"]
    assert _ids(client, campaign="-", apart=4) == ["m0", "m1", "m2"]
    assert _ids(client, search="zUG 2") == _ids(client, search="ANSWER 2") == ["m2"]
    assert _ids(client, person="ann", show="all") == [f"m{n}" for n in (0, 1, 2, 7, 3, 4, 5, 6)]
    assert _ids(client, person="rev", show="all") == []
    assert client.get("/lead/items/list?show=some").status_code == 422
    assert client.post(f"/lead/items/{_key(judged, 'm1')}/ruling", json={"choice": "both_bad"}).status_code == 200
    assert _ids(client) == ["m0", "m2", "m7", "m3", "m4"]
    assert _ids(client, show="decided") == ["m1"]


def test_pages_of_the_list_lose_nothing_when_items_are_decided_between_them(
    judged: Store, client: TestClient, log_in: LogIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("annotate.web.review.PAGE_LENGTH", 2)
    log_in("rev")
    seen: list[str] = []
    after: dict[str, object] = {}
    while True:
        reply = client.get("/lead/items/list", params=after).json()  # type: ignore[arg-type]
        seen += [row["id"] for row in reply["rows"]]
        if not reply["more"]:
            break
        last = reply["rows"][-1]
        assert client.post(f"/lead/items/{last['item']}/ruling", json={"choice": "left_out"}).status_code == 200
        after = {"after_apart": last["apart"], "after_item": last["item"]}
    assert seen == ["m0", "m1", "m2", "m7", "m3", "m4"]


def test_votes_are_hidden_until_somebody_has_decided(judged: Store, client: TestClient, log_in: LogIn) -> None:
    log_in("rev")
    item = _key(judged, "m4")
    before = client.get(f"/lead/items/{item}/card").json()
    assert (before["said"], before["judged"], before["ruling"], before["card"]["previous"]) == (None, 2, None, None)
    assert [answer["text"] for answer in before["card"]["answers"]] == ["first answer 4", "second answer"]
    page = client.get(f"/lead/items/{item}").text
    assert "a comment" not in page + client.get("/lead/items/list").text
    body = {"choice": "compared", "strength": 2, "comment": "it is dated"}
    after = client.post(f"/lead/items/{item}/ruling", json=body).json()
    assert after["ruling"] == {
        "choice": "compared",
        "strength": 2,
        "ranking": None,
        "comment": "it is dated",
        "by": "rev",
    }
    said = {one["name"]: (one["strength"], one["flag"], one["comment"]) for one in after["said"]}
    assert said == {"ann": (1, None, ""), "bea": (1, "unsafe", "a comment")}
    assert client.post(f"/lead/items/{item}/ruling", json={"choice": "withdrawn"}).json()["said"] is None


def test_votes_are_shown_at_once_where_the_review_is_not_blind(judged: Store) -> None:
    with client_of(judged, login=True, blind_review=False) as client:
        client.post("/login", data={"name": "rev", "password": PASSWORD})
        reply = client.get(f"/lead/items/{_key(judged, 'm0')}/card").json()
        assert {one["name"] for one in reply["said"]} == {"ann", "bea"}


@pytest.mark.parametrize(
    "body",
    [
        {"choice": "compared"},
        {"choice": "compared", "strength": 4},
        {"choice": "ranked", "ranking": [1, 2]},
        {"choice": "skipped"},
        {"choice": "both_bad", "strength": 1},
        {"choice": "both_bad", "more": 1},
    ],
)
def test_rulings_that_make_no_sense_are_refused(
    judged: Store, client: TestClient, log_in: LogIn, body: dict[str, Any]
) -> None:
    log_in("rev")
    assert client.post(f"/lead/items/{_key(judged, 'm0')}/ruling", json=body).status_code == 422
    with judged.read() as transaction:
        assert transaction.adjudications() == {}


def test_only_reviewers_come_here(judged: Store, client: TestClient, log_in: LogIn) -> None:
    item = _key(judged, "m0")
    for name, status in (("", 401), ("ann", 403)):
        client.cookies.clear()
        if name:
            log_in(name)
        for path in ("", "/list", f"/{item}", f"/{item}/card"):
            assert client.get(f"/lead/items{path}").status_code == status, path
        for path, body in (("ruling", {"choice": "both_bad"}), ("message", {"annotator": "ann", "text": "x"})):
            assert client.post(f"/lead/items/{item}/{path}", json=body).status_code == status, path
    log_in("rev")
    assert client.get("/lead/items/99999").status_code == client.get("/lead/items/99999/card").status_code == 404
    foreign = client.post(
        f"/lead/items/{item}/ruling", json={"choice": "both_bad"}, headers={"Origin": "https://elsewhere.example"}
    )
    assert foreign.status_code == 403


def test_the_annotator_hears_of_it(judged: Store, client: TestClient, log_in: LogIn) -> None:
    item = _key(judged, "m4")
    log_in("bea")
    assert client.get("/api/v1/mine/news").json() == {"overruled": 0, "replied": 0, "latest": 0.0}
    log_in("rev")
    client.post(f"/lead/items/{item}/ruling", json={"choice": "compared", "strength": -2, "comment": "see rule 3"})
    reply = client.post(f"/lead/items/{item}/message", json={"annotator": "bea", "text": " thank you "}).json()
    assert next(one["replies"] for one in reply["said"] if one["name"] == "bea") == [{"by": "rev", "text": "thank you"}]
    assert client.post(f"/lead/items/{item}/message", json={"annotator": "lead", "text": "?"}).status_code == 422
    log_in("bea")
    news = client.get("/api/v1/mine/news").json()
    assert (news["overruled"], news["replied"], news["latest"] > 0) == (1, 1, True)
    (line,) = client.get("/api/v1/mine", params={"show": "overruled"}).json()
    side = -1 if line["strength"] > 0 else 1
    assert line["item"] == item
    assert line["ruling"] == {
        "choice": "compared",
        "strength": 2 * side,
        "ranking": None,
        "comment": "see rule 3",
        "by": "rev",
    }
    assert [(one["by"], one["text"]) for one in line["replies"]] == [("rev", "thank you")]
    log_in("ann")
    assert client.get("/api/v1/mine/news").json()["overruled"] == 1
    assert client.get("/api/v1/mine", params={"show": "replied"}).json() == []
