"""`/api/v1` as a program uses it; every curl line of docs/annotate-api.md is sent."""

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from annotate.config import QueueSection
from annotate.intake.items import load_items
from annotate.labels.raw_export import export_raw
from annotate.people.accounts import add_account
from annotate.people.tokens import make_token
from annotate.store.database import Store
from tests.annotate.conftest import PASSWORD, client_of, make_item
from workbench.data.records import Response

PAGE = Path(__file__).parents[3] / "docs" / "annotate-api.md"
ITEMS = "".join(f'{{"prompt": "{letter}?", "response_a": "x", "response_b": "y"}}\n' for letter in "QR")


def _documented() -> list[list[str]]:
    text = "".join(re.findall(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
    return [shlex.split(line) for line in text.splitlines() if line.startswith("curl ")]


def _request(words: list[str], token: str) -> dict[str, Any]:
    """What curl would send."""
    request: dict[str, Any] = {"method": "GET", "headers": {}}
    rest = iter(words[1:])
    for word in rest:
        if word == "-H":
            name, _, value = next(rest).replace("$TOKEN", token).partition(": ")
            request["headers"][name] = value
        elif word == "-X":
            request["method"] = next(rest)
        elif word in ("-b", "-c"):
            assert next(rest) == "cookies.txt"  # which the client keeps
        elif word == "--data-urlencode":
            name, _, value = next(rest).replace("$PASSWORD", PASSWORD).partition("=")
            request["method"] = "POST"
            request.setdefault("data", {})[name] = value
        elif word == "--json":
            request |= {"method": "POST", "json": json.loads(next(rest))}
        elif word == "--data-binary":
            assert next(rest) == "@items.jsonl"
            request |= {"method": "POST", "content": ITEMS.encode()}
        else:
            assert word.startswith("http://127.0.0.1:7860/"), word
            request["url"] = word.removeprefix("http://127.0.0.1:7860")
    return request


def test_every_documented_request_is_answered(store: Store) -> None:
    add_account(store, "ann", "admin", PASSWORD)
    token = make_token(store, "ann", "notebook")
    with client_of(store, login=True) as client:
        replies = {}
        for words in _documented():
            request = _request(words, token)
            reply = client.request(**request)
            assert reply.status_code in (200, 201, 303), (words, reply.text)
            replies[request["method"], request["url"].partition("?")[0]] = reply
    assert len(replies) >= 15
    assert replies["POST", "/api/v1/items"].json()["new"] == 2
    assert replies["POST", "/api/v1/undo"].json()["card"]["previous"]["strength"] == -2
    choices = [json.loads(line)["choice"] for line in replies["GET", "/api/v1/export/judgements"].text.splitlines()]
    assert choices == ["compared", "withdrawn"]
    assert replies["POST", "/api/v1/people/bea"].json() == {"name": "bea", "role": "annotator", "state": "paused"}
    with store.read() as transaction:
        trail = [event["kind"] for event in transaction.events()]
    assert [trail.count(kind) for kind in ("token made", "token revoked", "withdrawn", "state changed")] == [2, 1, 1, 1]
    assert "raw judgements exported" in trail


def test_every_route_is_documented(store: Store) -> None:
    with client_of(store, login=False) as client:
        schema = client.get("/api/v1/openapi.json").json()
    text = PAGE.read_text(encoding="utf-8")
    assert len(schema["paths"]) >= 12
    for path, methods in schema["paths"].items():
        assert re.sub(r"\{.*?\}", "", path) in text, path
        assert all(operation["description"] and operation["security"] for operation in methods.values())


SCOPES = {"label": (200, 200, 403, 403), "read": (200, 403, 200, 403), "admin": (200, 200, 200, 201)}


@pytest.mark.parametrize("scope", SCOPES)
def test_a_token_may_what_its_scope_says(client: TestClient, filled: Store, scope: str) -> None:
    own = {"Authorization": f"Bearer {make_token(filled, 'lead', 'test', scope=scope)}"}
    account = {"name": "cid", "password": PASSWORD}
    asked = [
        client.get("/api/v1/me", headers=own),
        client.post("/api/v1/next", headers=own),
        client.get("/api/v1/items", headers=own),
        client.post("/api/v1/people", headers=own, json=account),
    ]
    assert tuple(reply.status_code for reply in asked) == SCOPES[scope]
    assert all(f"the scope '{scope}'" in reply.json()["detail"] for reply in asked if reply.status_code == 403)
    if scope == "label":
        assert client.get("/label/", headers=own).headers["location"] == "/login"
        assert client.get("/lead", headers=own).status_code == 401


def test_a_token_makes_no_token(client: TestClient, filled: Store, log_in: Callable[..., None]) -> None:
    own = {"Authorization": f"Bearer {make_token(filled, 'lead', 'test')}"}
    log_in("lead")  # a token that is sent decides alone
    reply = client.post("/api/v1/tokens", headers=own, json={"name": "child"})
    assert (reply.status_code, reply.json()["detail"][:22]) == (403, "a token makes no token")
    made = client.post("/api/v1/tokens", json={"name": "child", "scope": "read", "days": 1}).json()["token"]
    shown = client.get("/api/v1/tokens", headers={"Authorization": f"Bearer {made}"}).json()[1]
    assert (shown["scope"], round(shown["expires_at"] - shown["made_at"])) == ("read", 86400)
    assert client.post("/api/v1/tokens", json={"name": "child", "days": 0}).status_code == 422


def test_who_may_end_a_token(client: TestClient, filled: Store, log_in: Callable[..., None]) -> None:
    own = {"Authorization": f"Bearer {make_token(filled, 'ann', 'test')}"}
    log_in("bea")
    assert client.delete("/api/v1/tokens/1").status_code == 422
    assert client.get("/api/v1/me", headers=own).status_code == 200
    log_in("lead")
    assert client.delete("/api/v1/tokens/1").json()["revoked"] is True
    assert client.get("/api/v1/me", headers=own).status_code == 401


@pytest.fixture
def local(store: Store) -> Iterator[TestClient]:
    with client_of(store, login=False) as client:
        yield client


Post = Callable[..., dict[str, Any]]


@pytest.fixture
def post(local: TestClient) -> Post:
    def send(path: str, **body: object) -> dict[str, Any]:
        reply = local.post(f"/api/v1/{path}", json=body)
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    return send


def test_a_ranking_with_an_edit_goes_through(store: Store, post: Post, local: TestClient, tmp_path: Path) -> None:
    item = make_item("a")
    four = tuple(Response(id=str(n), text=f"answer {n}") for n in range(4))
    load_items(
        store,
        [item.model_copy(update={"responses": four})],
        QueueSection(overlap=1, overlap_share=0, compare="ranking"),
    )
    card = post("next")["card"]
    texts = [answer["text"] for answer in card["answers"]]
    ranking = [int(text[-1]) + 1 for text in texts]
    answer = {"item": card["item"], "choice": "ranked", "ranking": ranking, "client_key": "key-0001"}
    reply = post("submit", **answer, edited_text="better", edited_response=texts.index("answer 0"), flag="unsafe")
    assert (reply["revision"], reply["surplus"], reply["card"]) == (1, False, None)
    assert reply["nothing"] == "All pairs have the judgements they need (1)."
    assert local.get(f"/api/v1/mine/{card['item']}").json()["card"]["previous"]["ranking"] == ranking
    assert export_raw(store, tmp_path / "raw.jsonl") == 1
    record = json.loads((tmp_path / "raw.jsonl").read_text(encoding="utf-8"))
    assert (record["ranking"], record["edited_response"], record["edited_text"]) == ([1, 2, 3, 4], 0, "better")
    assert (record["item"], record["annotator"], record["current"], record["flag"]) == ("a", "local", True, "unsafe")
    assert sorted(record["display_order"]) == [0, 1, 2, 3]


def test_marked_passages_go_through_in_code_points(store: Store, post: Post, local: TestClient, tmp_path: Path) -> None:
    load_items(store, [make_item("a", "\U0001f600 first", "second")], QueueSection(overlap=1, overlap_share=0))
    with store.write() as transaction:
        transaction.offer_reasons(["wrong fact"])
    card = post("next")["card"]
    first = [answer["text"] for answer in card["answers"]].index("\U0001f600 first")
    answer = {"item": card["item"], "choice": "both_bad", "client_key": "key-0001"}
    span = {"answer": first, "start": 2, "end": 7, "label": "wrong fact"}
    refused = local.post("/api/v1/submit", json={**answer, "spans": [{**span, "end": 8}]})
    assert (refused.status_code, refused.json()["detail"][:42]) == (409, "a marked passage must begin before it ends")
    assert local.post("/api/v1/submit", json={**answer, "spans": [{**span, "end": "x"}]}).status_code == 422
    post("submit", **answer, spans=[span], reasons=["wrong fact"], differences_shown=True)
    previous = local.get(f"/api/v1/mine/{card['item']}").json()["card"]["previous"]
    assert (previous["spans"], previous["reasons"], previous["differences_shown"]) == ([span], ["wrong fact"], True)
    export_raw(store, tmp_path / "raw.jsonl")
    record = json.loads((tmp_path / "raw.jsonl").read_text(encoding="utf-8"))
    assert record["spans"] == [{**span, "answer": 0}]  # in the item's own order
    assert (record["reasons"], record["differences_shown"]) == (["wrong fact"], True)
    post("submit", **{**answer, "client_key": "key-0002"})
    assert "spans" not in local.get(f"/api/v1/mine/{card['item']}").json()["card"]["previous"]  # an edit removes them


def test_own_judgements_are_listed_as_they_were_given(store: Store, post: Post, local: TestClient) -> None:
    load_items(store, [make_item(f"i{n}") for n in range(6)], QueueSection(overlap=1, overlap_share=0))
    given = {}
    for number in range(6):
        item = post("next")["card"]["item"]
        given[item] = 3 if number % 2 else -1
        post("submit", item=item, choice="compared", strength=given[item], client_key=f"key-{number:05}", seconds=2)
    mine = local.get("/api/v1/mine").json()
    assert {line["item"]: line["strength"] for line in mine} == given
    assert [line["prompt"] for line in mine] == [f"Question i{n}?" for n in reversed(range(6))]
    assert len(local.get("/api/v1/mine", params={"limit": 4, "before": mine[1]["at"]}).json()) == 4
    assert post("next")["progress"] == {"mine": 6, "open_for_me": 0, "seconds_each": 2}


def test_bad_items_change_nothing_and_are_named_by_their_line(local: TestClient) -> None:
    reply = local.post("/api/v1/items", content=ITEMS.encode() + b'{"prompt": "only"}\n')
    assert reply.status_code == 422
    assert "items, line 3" in reply.json()["detail"]
    assert "/tmp" not in reply.text
    assert local.get("/api/v1/items").json() == []
    assert local.post("/api/v1/items", content=b"").status_code == 422


@pytest.mark.parametrize("body", ["[" * 200_000, '{"a":' * 100_000, '{"prompt": ' + "[" * 100_000])
def test_json_that_is_nested_too_deep_is_a_clear_refusal(local: TestClient, body: str) -> None:
    reply = local.post("/api/v1/items", content=body.encode())
    assert reply.status_code == 422
    assert "items: nested too deeply to be read" in reply.json()["detail"]
    headers = {"Content-Type": "application/json"}
    assert local.post("/api/v1/undo", content=body[:200_000].encode(), headers=headers).status_code in (400, 422)
    assert local.get("/api/v1/items").json() == []


def test_items_are_listed_page_by_page(store: Store, local: TestClient) -> None:
    load_items(store, [make_item(f"i{n}") for n in range(5)], QueueSection(overlap=2, overlap_share=1))
    first = local.get("/api/v1/items", params={"limit": 3}).json()
    rest = local.get("/api/v1/items", params={"limit": 3, "after": first[-1]["key"]}).json()
    assert [item["id"] for item in first + rest] == [f"i{n}" for n in range(5)]
    assert (first[0]["overlap"], first[0]["done"], first[0]["responses"][1]["run"]) == (2, 0, "runs/two")


MALFORMED = [
    *(
        ("submit", f'{{"choice": "skipped", "client_key": "key-of-i0", {part}}}')
        for part in (
            '"item": NaN',
            '"item": 1e400',
            '"item": 99999999999999999999',
            '"item": 0',
            '"item": 1, "seconds": NaN',
            '"item": 1, "seconds": 1e400',
            '"item": 1, "comment": "\\ud800"',
            '"item": 1, "reasons": ["\\ud800"]',
            '"item": 1, "spans": [{"answer": 0, "start": 0, "end": 1, "label": "\\ud800"}]',
            '"item": 1, "rubric": {"\\ud800": 1}',
            '"item": 1, "\\ud800": 1',
        )
    ),
    ("ahead", '{"known": [99999999999999999999]}'),
    ("mine/star", '{"item": 99999999999999999999, "starred": true}'),
    ("people", '{"name": "cid", "password": "secret \\ud800"}'),
    ("people", f'{{"name": "cid", "password": "{"secret " * 200}"}}'),
    ("people", '{"name": "\\ud800", "password": "secret and long"}'),
]


@pytest.mark.parametrize(("route", "body"), MALFORMED)
def test_a_malformed_body_is_refused_and_not_repeated(client: TestClient, filled: Store, route: str, body: str) -> None:
    """Not with a 5xx, after which clients send it again."""
    own = {"Authorization": f"Bearer {make_token(filled, 'lead', 'test')}", "Content-Type": "application/json"}
    reply = client.post(f"/api/v1/{route}", headers=own, content=body)
    assert reply.status_code == 422, reply.text
    assert all(set(problem) == {"loc", "msg"} for problem in reply.json()["detail"])
    assert "secret" not in reply.text


@pytest.mark.parametrize("path", ["mine/9{}", "items?after=9{}", "mine?before=nan", "tokens/9{}", "mine/0"])
def test_a_number_that_no_store_holds_is_malformed(client: TestClient, filled: Store, path: str) -> None:
    own = {"Authorization": f"Bearer {make_token(filled, 'lead', 'test')}"}
    method = "DELETE" if path.startswith("tokens") else "GET"
    reply = client.request(method, "/api/v1/" + path.format("9" * 22), headers=own)
    assert (reply.status_code, set(reply.json()["detail"][0])) == (422, {"loc", "msg"})
