"""What outsiders and annotators are kept from. Each refusal is asked for; a permitted twin shows that it bites."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from annotate.config import QueueSection, ServerSection
from annotate.people.accounts import set_state
from annotate.people.tokens import make_token
from annotate.queue.rules import Queue
from annotate.store.database import Store
from annotate.web.app import create_app
from annotate.web.contents import PageContents
from tests.annotate.conftest import PASSWORD, client_of

OPEN = {"/", "/login", "/logout", "/manifest.json", "/favicon.ico"}
"""Without an account."""
LEADING = {
    ("GET", "/api/v1/items"): "reviewer",
    ("POST", "/api/v1/items"): "admin",
    ("GET", "/api/v1/export/judgements"): "reviewer",
    ("GET", "/api/v1/people"): "admin",
    ("POST", "/api/v1/people"): "admin",
    ("POST", "/api/v1/people/{name}"): "admin",
    ("GET", "/lead"): "reviewer",
    ("POST", "/lead/relabel"): "reviewer",
    ("GET", "/lead/review"): "reviewer",
    ("POST", "/lead/review/{item}"): "reviewer",
    ("GET", "/lead/items"): "reviewer",
    ("GET", "/lead/items/list"): "reviewer",
    ("GET", "/lead/items/{item}"): "reviewer",
    ("GET", "/lead/items/{item}/card"): "reviewer",
    ("POST", "/lead/items/{item}/ruling"): "reviewer",
    ("POST", "/lead/items/{item}/message"): "reviewer",
    ("GET", "/api/v1/export/preferences"): "reviewer",
    ("GET", "/api/v1/export/answers"): "reviewer",
    ("GET", "/api/v1/export/demonstrations"): "reviewer",
    ("GET", "/lead/people"): "admin",
    ("POST", "/lead/people"): "admin",
    ("POST", "/lead/people/{name}/role"): "admin",
    ("POST", "/lead/people/{name}/password"): "admin",
    ("POST", "/lead/people/{name}/tokens/{token_id}"): "admin",
    ("GET", "/lead/people/{name}"): "admin",
    ("POST", "/lead/people/{name}"): "admin",
}
"""Routes that need more than the role of an annotator."""
ALLOWED = {"reviewer": {"reviewer", "admin"}, "admin": {"admin"}}


@pytest.fixture
def with_token(filled: Store, client: TestClient) -> Callable[[str], dict[str, str]]:
    def header(name: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {make_token(filled, name, 'test')}"}

    return header


def _routes(client: TestClient) -> Iterator[tuple[str, str]]:
    for route in _flat(client.app.routes):  # type: ignore[attr-defined]
        if isinstance(route, APIRoute) and not route.path.startswith("/label"):
            yield from ((method, route.path) for method in sorted(route.methods))


def _flat(routes: Any) -> Iterator[Any]:
    for route in routes:
        inner = getattr(getattr(route, "original_router", None), "routes", None)
        yield from _flat(inner) if inner else (route,)


def _ask(client: TestClient, method: str, path: str, headers: dict[str, str] | None = None) -> int:
    """The status of a request with a body that fits no route."""
    address = path.format(name="ann", item=1, token_id=99)
    return int(client.request(method, address, headers=headers, content=b"{}").status_code)


def test_every_route_but_the_entrance_needs_an_account(client: TestClient) -> None:
    routes = list(_routes(client))
    assert len(routes) > 15
    for method, path in routes:
        if path not in OPEN:
            assert _ask(client, method, path) == 401, (method, path)


def test_leading_needs_its_role(client: TestClient, with_token: Callable[[str], dict[str, str]]) -> None:
    beyond = {route for route in _routes(client) if route[1].startswith(("/lead", "/api/v1/export", "/api/v1/people"))}
    assert beyond <= set(LEADING) <= set(_routes(client)), "a route whose role is not stated here"
    headers = {role: with_token(name) for role, name in (("annotator", "ann"), ("reviewer", "rev"), ("admin", "lead"))}
    for (method, path), role in LEADING.items():
        for have, header in headers.items():
            status = _ask(client, method, path, header)
            assert (status != 403) == (have in ALLOWED[role]), (method, path, have, status)


def test_an_annotator_sees_nothing_of_others(client: TestClient, with_token: Callable[[str], dict[str, str]]) -> None:
    ann, bea = with_token("ann"), with_token("bea")
    item = client.post("/api/v1/next", headers=ann).json()["card"]["item"]
    body = {"item": item, "choice": "compared", "strength": 2, "client_key": "a-key-of-ann", "comment": "a secret"}
    client.post("/api/v1/submit", headers=ann, json=body)
    assert client.get(f"/api/v1/mine/{item}", headers=ann).json()["card"]["previous"]["comment"] == "a secret"
    assert client.get(f"/api/v1/mine/{item}", headers=bea).status_code == 404
    assert client.get("/api/v1/mine", headers=bea).json() == []
    assert client.post("/api/v1/submit", headers=bea, json=body).status_code == 409
    assert client.post("/api/v1/undo", headers=bea, json={"client_key": "a-key-of-ann"}).status_code == 409
    assert "a secret" not in client.post("/api/v1/next", headers=bea).text


def test_a_token_acts_for_its_account_only(
    client: TestClient, with_token: Callable[[str], dict[str, str]], log_in: Callable[..., None]
) -> None:
    ann = with_token("ann")
    log_in("ann")
    made = client.post("/api/v1/tokens", json={"name": "second"}).json()
    assert client.get("/api/v1/me", headers={"Authorization": f"Bearer {made['token']}"}).json()["name"] == "ann"
    listed = client.get("/api/v1/tokens", headers=ann).json()
    assert [token["name"] for token in listed] == ["test", "second"]
    assert made["token"] not in json.dumps(listed)
    assert client.delete(f"/api/v1/tokens/{listed[1]['id']}", headers=with_token("bea")).status_code == 422
    assert client.delete(f"/api/v1/tokens/{listed[1]['id']}", headers=ann).status_code == 200
    assert client.get("/api/v1/me", headers={"Authorization": f"Bearer {made['token']}"}).status_code == 401
    log_in("lead")  # a wrong token is not rescued by a good cookie
    assert client.get("/api/v1/me", headers={"Authorization": "Bearer aw_wrong"}).status_code == 401


def test_somebody_removed_is_out_at_once(client: TestClient, filled: Store, log_in: Callable[..., None]) -> None:
    log_in("ann")
    assert client.post("/api/v1/next").status_code == 200
    set_state(filled, "ann", "removed")
    assert client.post("/api/v1/next").status_code == 401
    assert client.get("/label/").headers["location"] == "/login"
    assert client.post("/login", data={"name": "ann", "password": PASSWORD}).status_code == 403


def test_other_origins_cannot_use_a_login(client: TestClient, log_in: Callable[..., None]) -> None:
    log_in("lead")
    for origin in ("http://evil.example", "null", "http://localhost.evil.example", "http://localhost:81"):
        for method, path in _routes(client):
            if method != "GET":
                address = path.format(name="ann", item=1, token_id=99)
                assert client.request(method, address, headers={"Origin": origin}).status_code == 403, (origin, path)
    assert client.post("/api/v1/next", headers={"Origin": "http://localhost"}).status_code == 200


def test_the_large_body_of_items_is_not_read_for_others(
    client: TestClient, with_token: Callable[[str], dict[str, str]]
) -> None:
    ann, lead = with_token("ann"), with_token("lead")
    large = b'{"prompt": "Q?", "response_a": "' + b"x" * 400_000 + b'", "response_b": "y"}\n'
    assert client.post("/api/v1/items", headers=ann, content=large).status_code == 403
    assert client.post("/api/v1/items", headers=lead, content=large).json()["new"] == 1
    for path in ("submit", "people", "tokens"):
        assert client.post(f"/api/v1/{path}", headers=lead, content=large).status_code == 413
    huge = {"Content-Length": str(65 * 1024 * 1024)}
    assert client.post("/api/v1/items", headers=lead | huge, content=b"x").status_code == 413


def test_a_password_guesser_is_slowed_down_and_others_are_not(client: TestClient) -> None:
    for _ in range(5):
        assert client.post("/login", data={"name": "ann", "password": "wrong wrong"}).status_code == 403
    assert client.post("/login", data={"name": "ann", "password": PASSWORD}).status_code == 429
    assert client.post("/login", data={"name": "bea", "password": PASSWORD}).status_code == 303
    statuses = [client.post("/login", data={"name": f"n{n}", "password": "wrong wrong"}).status_code for n in range(30)]
    assert set(statuses) == {403}  # one address may be many people's: it alone locks nobody out


@pytest.mark.parametrize("name", ["../ann", "ann/../lead", "%2e%2e", "ann%00", "' OR 1=1 --"])
def test_odd_names_in_addresses_reach_nobody(
    client: TestClient, with_token: Callable[[str], dict[str, str]], name: str
) -> None:
    reply = client.post(f"/api/v1/people/{name}", headers=with_token("lead"), json={"state": "removed"})
    assert reply.status_code in (403, 404, 405, 422)
    everybody = client.get("/api/v1/people", headers=with_token("lead")).json()
    assert {person["state"] for person in everybody} == {"active"}


def test_one_person_mode_does_not_open_another_host(store: Store) -> None:
    with client_of(store, login=False) as client:
        assert client.get("/api/v1/me").json()["login"] is False
        for host in ("evil.example", "127.0.0.1.evil.example", "[::2]", ""):
            assert client.get("/api/v1/people", headers={"Host": host}).status_code == 400, host
        for host in ("localhost:7860", "127.0.0.1:7860", "[::1]:7860"):
            assert client.get("/api/v1/me", headers={"Host": host}).status_code == 200, host


def _card(client: TestClient) -> int:
    """The key of the card among the components of the page."""
    components = client.get("/label/config").json()["components"]
    return next(int(one["id"]) for one in components if one["type"] == "html")


def _call(client: TestClient, name: str, data: Any, headers: dict[str, str] | None = None, **more: Any) -> Any:
    """A call of a server function of the card, as its scripts make it."""
    card = more.get("card") or _card(client)
    body = {"data": data, "component_id": card, "fn_name": f"label_{name}", "session_hash": "card"}
    return client.post(f"/label/gradio_api/component_server/?{name}", json=body, headers=headers)


def test_the_cards_server_functions_are_open_to_accounts_and_to_json_alone(
    client: TestClient, log_in: Callable[..., None]
) -> None:
    log_in("ann")
    assert _call(client, "me", {}).json()["name"] == "ann"
    item = _call(client, "next", {}).json()["card"]["item"]
    card = _card(client)
    body = {"item": item, "choice": "compared", "strength": 2, "client_key": "a-key-of-ann"}
    assert _call(client, "me", {}, {"Origin": "http://evil.example"}).status_code == 403
    assert _call(client, "me", {}, {"Sec-Fetch-Site": "cross-site"}).status_code == 403
    for function in ("desk", "get_config", "__init__", "answered", "preprocess"):
        path = "/label/gradio_api/component_server/"
        asked = {"data": {}, "component_id": card, "fn_name": function, "session_hash": "card"}
        assert client.post(path, json=asked).status_code == 404, function
    fields = {"data": "{}", "component_id": str(card), "fn_name": "label_me", "session_hash": "card"}
    path = "/label/gradio_api/component_server/"
    assert client.post(path, data=fields).status_code == 415
    assert client.post(path, data=fields, files={"files": ("x", b"y")}).status_code == 415
    assert client.get(path).status_code == 403
    log_in("bea")
    assert _call(client, "submit", body).status_code == 409
    log_in("ann")
    assert _call(client, "submit", body).json()["revision"] == 1
    client.cookies.clear()
    assert _call(client, "submit", body, card=card).status_code == 401


TABLES = "/lead/tables/"


def test_the_tables_are_for_reviewers_and_loading_is_for_admins(
    client: TestClient, log_in: Callable[..., None]
) -> None:
    inner = ("gradio_api/run/rows", "gradio_api/upload")
    assert client.get(TABLES).headers["location"] == "/login"
    for path in inner:
        assert client.post(TABLES + path, json={"data": []}).status_code == 401
    for name, opens, loads in (("ann", False, False), ("rev", True, False), ("lead", True, True)):
        log_in(name)
        assert (client.get(TABLES).status_code == 200) == opens, name
        assert (client.get(TABLES + "config").status_code == 200) == opens, name
        assert (client.post(TABLES + inner[0], json={"data": []}).status_code != 403) == opens, name
        sent = client.post(TABLES + inner[1], files={"files": ("items.jsonl", b"{}")})
        assert (sent.status_code == 200) == loads, name
    for path in ("queue/join", "component_server/", "run-history/connect", "stream/x"):
        assert client.post(TABLES + "gradio_api/" + path, json={}).status_code == 403
    for path in ("file=/etc/passwd", "file=http://example.com", "proxy=http://example.com", "queue/data", "info"):
        assert client.get(TABLES + "gradio_api/" + path).status_code == 403


def test_only_named_origins_may_show_the_card_in_a_frame(filled: Store, client: TestClient) -> None:
    assert client.get("/login").headers["x-frame-options"] == "DENY"
    queue = Queue(filled, QueueSection())
    wiki = "https://wiki.example.org"
    app = create_app(filled, queue, PageContents("T"), login=True, embed_in=[wiki])
    with TestClient(app, base_url="http://localhost", follow_redirects=False) as framed:
        for path in ("/login", "/label/", "/label/config"):
            headers = framed.get(path).headers
            assert f"frame-ancestors 'self' {wiki}" in headers["content-security-policy"], path
            assert "x-frame-options" not in headers
        for path in ("/lead", "/lead/people", "/lead/tables/", "/labels", "/loginx", "/api/v1/me"):
            headers = framed.get(path).headers
            assert "frame-ancestors 'none'" in headers["content-security-policy"], path
            assert headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize(
    "origin", ["wiki.example.org", "https://*.example.org", "https://a.example/x", "'self'; x", "*"]
)
def test_origins_that_are_none_are_refused(origin: str) -> None:
    with pytest.raises(ValueError, match="not an origin"):
        ServerSection(embed_in=(origin,))
    assert ServerSection(embed_in=("https://a.example", "http://localhost:8888", "http://[::1]:80")).embed_in
