import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient

from annotate.config import QueueSection
from annotate.intake.items import load_items
from annotate.people.accounts import add_account, check_password, has_accounts
from annotate.people.sessions import Brake, Sessions
from annotate.queue.rules import Queue
from annotate.store.database import Store
from annotate.web.app import create_app, login_needed, warning
from annotate.web.contents import PageContents
from annotate.web.login import HASHED_AT_ONCE
from tests.annotate.conftest import PASSWORD, client_of, make_item
from workbench.run.errors import WorkbenchError
from workbench.serve.http import Protocol, listen


def test_without_a_login_there_is_only_the_form(client: TestClient) -> None:
    for path in ("next", "submit", "undo", "me"):
        assert client.post(f"/api/v1/{path}", json={}).status_code in (401, 422)
    assert client.post("/api/v1/next").status_code == 401
    assert client.get("/label/").headers["location"] == "/login"
    assert client.get("/label/config").status_code == 401
    form = client.get("/login")
    assert "Which &lt;b&gt;?" in form.text


def test_login_label_undo_logout(client: TestClient, filled: Store, log_in: Callable[..., None]) -> None:
    log_in()
    assert client.get("/label/").status_code == 200
    assert client.post("/api/v1/me").json() == {
        "name": "ann",
        "role": "annotator",
        "state": "active",
        "login": True,
    }
    first = client.post("/api/v1/next").json()
    answer = {"item": first["card"]["item"], "choice": "compared", "strength": 2, "client_key": "key-0001"}
    second = client.post("/api/v1/submit", json=answer).json()
    assert second["card"]["item"] != first["card"]["item"]
    assert second["progress"] == {"mine": 1, "open_for_me": 4, "seconds_each": None}
    again = client.post("/api/v1/submit", json=answer).json()
    assert (again["repeated"], again["progress"]["mine"]) == (True, 1)
    back = client.post("/api/v1/undo", json={"client_key": "key-0002"}).json()
    assert back["card"]["previous"] == {"choice": "compared", "strength": 2}
    assert back["card"]["answers"] == first["card"]["answers"]
    with filled.read() as transaction:
        assert [event["kind"] for event in transaction.events()].count("logged in") == 1
    client.post("/logout")
    assert client.post("/api/v1/next").status_code == 401


def test_where_answers_come_from_is_never_sent(client: TestClient, log_in: Callable[..., None]) -> None:
    log_in()
    text = client.post("/api/v1/next").text + client.get("/label/").text + client.get("/label/config").text
    for secret in ("runs/one", "runs/two", "0.7", "1.3", "temperature", "ended", "swapped"):
        assert secret not in text, secret


def test_wrong_passwords_are_refused_then_slowed_down(client: TestClient) -> None:
    statuses = [client.post("/login", data={"name": "ann", "password": f"wrong {n}"}).status_code for n in range(7)]
    assert statuses == [403] * 5 + [429] * 2
    assert client.post("/login", data={"name": "ann", "password": PASSWORD}).status_code == 429


def test_forged_and_foreign_cookies_are_refused(client: TestClient, filled: Store, log_in: Callable[..., None]) -> None:
    log_in()
    good = client.cookies["annotate_session"]
    for bad in (good[:-2] + "AA", "ann", "", good.split(".")[0] + ".x.y"):
        client.cookies.clear()
        client.cookies.set("annotate_session", bad)
        assert client.post("/api/v1/next").status_code == 401, bad


def test_the_cookie_survives_a_restart_and_is_closed_to_scripts(
    client: TestClient, filled: Store, log_in: Callable[..., None]
) -> None:
    reply = client.post("/login", data={"name": "ann", "password": PASSWORD})
    header = reply.headers["set-cookie"].lower()
    assert "httponly" in header
    assert "samesite=lax" in header
    with client_of(filled, login=True) as restarted:
        restarted.cookies.set("annotate_session", client.cookies["annotate_session"])
        assert restarted.post("/api/v1/me").json()["name"] == "ann"


def test_after_logging_out_the_old_cookie_is_worth_nothing(client: TestClient, log_in: Callable[..., None]) -> None:
    log_in()
    old = client.cookies["annotate_session"]
    assert client.post("/logout").status_code == 303
    log_in("bea")  # another account's login is none of its business
    assert client.get("/api/v1/me").json()["name"] == "bea"
    client.cookies.clear()
    client.cookies.set("annotate_session", old)
    assert client.get("/api/v1/me").status_code == 401
    assert client.post("/logout").status_code == 303
    log_in()
    assert client.get("/api/v1/me").json()["name"] == "ann"


def test_a_revoked_session_ends(filled: Store) -> None:
    sessions = Sessions(filled, days=1)
    account = check_password(filled, "ann", PASSWORD)
    assert account is not None
    assert sessions.account(sessions.issue(account)) == account
    assert sessions.account(sessions.issue(account._replace(session_version=1))) is None
    assert sessions.account(sessions.issue(account._replace(name="nobody"))) is None


def test_another_annotators_item_is_refused(client: TestClient, log_in: Callable[..., None]) -> None:
    log_in("ann")
    item = client.post("/api/v1/next").json()["card"]["item"]
    log_in("bea")
    assert client.post("/api/v1/next").json()["card"]["item"] != item
    answer = {"item": item, "choice": "compared", "strength": 2, "client_key": "key-0001"}
    assert client.post("/api/v1/submit", json=answer).status_code == 409


def test_bad_answers_are_refused(client: TestClient, log_in: Callable[..., None]) -> None:
    log_in()
    item = client.post("/api/v1/next").json()["card"]["item"]
    good = {"item": item, "choice": "compared", "strength": 2, "client_key": "key-0001"}
    for change in ({"strength": 4}, {"choice": "best"}, {"item": "x"}, {"client_key": "x"}, {"surprise": 1}):
        assert client.post("/api/v1/submit", json=good | change).status_code == 422, change
    assert client.post("/api/v1/submit", json=good | {"choice": "skipped"}).status_code == 409
    assert client.post("/api/v1/submit", json=good).status_code == 200


def test_headers_on_every_reply(client: TestClient, log_in: Callable[..., None]) -> None:
    log_in()
    for path in ("/login", "/label/", "/manifest.json", "/api/v1/openapi.json", "/nowhere"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        for part in ("frame-ancestors 'none'", "img-src 'self' data:", "connect-src 'self'", "form-action 'self'"):
            assert part in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"


def test_other_origins_are_refused(client: TestClient, log_in: Callable[..., None]) -> None:
    log_in()
    for origin in ("http://evil.example", "null", "http://localhost:8080"):
        for path in ("/api/v1/next", "/label/gradio_api/queue/join"):
            reply = client.post(path, headers={"Origin": origin})
            assert reply.status_code == 403
            assert not [name for name in reply.headers if name.startswith("access-control")]
    assert client.post("/api/v1/next", headers={"Origin": "http://localhost"}).status_code == 200
    preflight = client.options(
        "/label/config", headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    )
    assert preflight.status_code == 403


def test_gradios_own_ways_in_are_closed(client: TestClient, log_in: Callable[..., None]) -> None:
    log_in()
    for path in (
        "/label/gradio_api/upload",
        "/label/gradio_api/upload/",
        "/label/gradio_api/file=/etc/passwd",
        "/label/gradio_api/proxy=http://example.com",
        "/label/gradio_api/run/predict",
        "/label/gradio_api/queue/join",
        "/label/gradio_api/run-history/connect",
        "/label/../../etc/passwd",
        "/label/assets/../../../../etc/passwd",
        "/label/assets/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/assets/%2e%2e/app.py",
    ):
        assert client.post(path, files={"files": ("x.txt", b"text")}).status_code in (403, 404, 405), path
        assert client.get(path).status_code in (403, 404, 405), path


def test_large_and_unmeasured_bodies_are_refused(client: TestClient, log_in: Callable[..., None]) -> None:
    log_in()
    assert client.post("/api/v1/submit", content=b"x" * 300_000).status_code == 413
    assert client.post("/api/v1/submit", content=iter([b"x"])).status_code == 411


def test_one_person_mode_answers_on_this_machine_only(store: Store) -> None:
    load_items(store, [make_item("a")], QueueSection(overlap=1, overlap_share=0))
    with client_of(store, login=False) as client:
        assert client.post("/api/v1/me").json() == {
            "name": "local",
            "role": "admin",
            "state": "active",
            "login": False,
        }
        assert client.get("/label/").status_code == 200
        # A page elsewhere that points its own name at 127.0.0.1 sends that name.
        assert client.post("/api/v1/next", headers={"Host": "evil.example"}).status_code == 400


def test_replies_are_sent_at_once() -> None:
    """A socket without its protocol gets no TCP_NODELAY from asyncio, and every reply waits 40 ms."""
    listener = listen("127.0.0.1", _free_port())
    assert listener.proto == socket.IPPROTO_TCP
    listener.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_serving_others_needs_accounts(store: Store) -> None:
    assert login_needed(store, host="127.0.0.1", require_login=False) is False
    for host, require in (("0.0.0.0", False), ("127.0.0.1", True)):
        with pytest.raises(WorkbenchError, match="has no account"):
            login_needed(store, host=host, require_login=require)
    add_account(store, "ann", "admin", PASSWORD)
    assert login_needed(store, host="0.0.0.0", require_login=False) is True
    assert login_needed(store, host="127.0.0.1", require_login=False) is True


@pytest.mark.parametrize(
    ("name", "role", "password", "problem"),
    [
        ("no spaces", "admin", PASSWORD, "cannot be a name"),
        ("ann", "boss", PASSWORD, "unknown role"),
        ("ann", "admin", "short", "too short"),
        ("taken", "admin", PASSWORD, "already has an annotator"),
    ],
)
def test_bad_accounts_are_refused(store: Store, name: str, role: str, password: str, problem: str) -> None:
    add_account(store, "taken", "admin", PASSWORD)
    with pytest.raises(WorkbenchError, match=problem):
        add_account(store, name, role, password)


def test_passwords_are_hashed(store: Store) -> None:
    assert not has_accounts(store)
    add_account(store, "ann", "admin", PASSWORD)
    assert has_accounts(store)
    with store.read() as transaction:
        account = transaction.annotator("ann")
    assert account is not None
    assert account.password_hash is not None
    assert account.password_hash.startswith("$argon2id$")
    assert check_password(store, "ann", PASSWORD) == account
    assert check_password(store, "ann", "wrong") is None
    assert check_password(store, "nobody", PASSWORD) is None


def test_the_brake_opens_again() -> None:
    now = [0.0]
    brake = Brake(failures=2, seconds=10, clock=lambda: now[0])
    assert brake.take("a") == 0
    now[0] = 4
    assert brake.take("a") == 0
    assert brake.take("a") == 6
    assert brake.take("b") == 0
    brake.give_back("a")
    assert brake.take("a") == 0
    now[0] = 10.5
    assert brake.take("a") == 0


def test_many_guesses_at_once_are_no_way_around_the_brake(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[int] = []
    running: set[int] = set()

    def check(_store: Store, _name: str, _password: str) -> None:
        running.add(threading.get_ident())
        checked.append(len(running))
        time.sleep(0.05)
        running.discard(threading.get_ident())

    monkeypatch.setattr("annotate.web.login.check_password", check)

    def guess(name: str) -> int:
        return client.post("/login", data={"name": name, "password": "wrong password"}).status_code

    with ThreadPoolExecutor(40) as pool:
        statuses = list(pool.map(guess, ["ann", "ANN"] * 20))
    assert sorted(statuses) == [403] * 5 + [429] * 35
    assert len(checked) == 5
    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(guess, [f"name-{n}" for n in range(20)])) == {403}
    assert max(checked) == HASHED_AT_ONCE


def test_wrong_logins_of_one_address_lock_nobody_else_out(client: TestClient, log_in: Callable[..., None]) -> None:
    """Behind a proxy that does not say who asks, all people have its address."""
    for n in range(40):
        assert client.post("/login", data={"name": f"name-{n}", "password": "wrong password"}).status_code == 403
    for _ in range(7):
        log_in("ann")  # a success costs no try


def test_over_https_the_cookie_is_sent_over_https_only(filled: Store) -> None:
    form = {"name": "ann", "password": PASSWORD}
    with client_of(filled, login=True) as plain:
        assert "secure" not in plain.post("/login", data=form).headers["set-cookie"].lower()
        assert "strict-transport-security" not in plain.get("/login").headers
        # What uvicorn makes of X-Forwarded-Proto from a proxy that it trusts.
        tls = TestClient(plain.app, base_url="https://localhost", follow_redirects=False)
        assert "; secure" in tls.post("/login", data=form).headers["set-cookie"].lower()
        assert tls.get("/login").headers["strict-transport-security"] == "max-age=31536000"


def test_an_origin_counts_with_its_scheme(client: TestClient, log_in: Callable[..., None]) -> None:
    log_in()
    tls = TestClient(client.app, base_url="https://localhost", cookies=client.cookies)
    assert tls.post("/api/v1/next", headers={"Origin": "https://localhost"}).status_code == 200
    assert tls.post("/api/v1/next", headers={"Origin": "http://localhost"}).status_code == 403
    reply = client.post("/api/v1/next", headers={"Origin": "https://localhost"})
    assert (reply.status_code, "set server.https=true" in reply.json()["detail"]) == (403, True)


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)]
)
def test_a_request_without_origin_says_where_it_comes_from(
    client: TestClient, log_in: Callable[..., None], site: str, status: int
) -> None:
    log_in()
    assert client.post("/api/v1/next", headers={"Sec-Fetch-Site": site}).status_code == status
    assert client.get("/api/v1/me", headers={"Sec-Fetch-Site": site}).status_code == 200


def test_strangers_are_given_no_stream(client: TestClient, log_in: Callable[..., None]) -> None:
    for path in ("heartbeat/x", "startup-events"):
        assert client.get(f"/label/gradio_api/{path}").status_code == 401
    log_in()
    assert client.get("/label/gradio_api/startup-events").status_code == 200


def test_a_server_open_to_others_without_https_is_warned_of() -> None:
    assert warning(host="127.0.0.1", https=False) is None
    assert warning(host="0.0.0.0", https=True) is None
    assert "server.https is false" in str(warning(host="0.0.0.0", https=False))


@pytest.fixture
def linked(store: Store) -> Iterator[TestClient]:
    """A server of one person, as `serve` starts it."""
    queue = Queue(store, QueueSection(lease_seconds=60))
    app = create_app(store, queue, PageContents("Which?"), login=False, key="the-key", port=1)
    with TestClient(app, base_url="http://localhost", follow_redirects=False) as client:
        yield client


def test_other_users_of_this_machine_need_the_link(linked: TestClient, store: Store) -> None:
    for path in ("/api/v1/me", "/api/v1/items", "/lead", "/label/config"):
        assert linked.get(path).status_code == 401, path
    assert linked.get("/label/").headers["location"] == "/login"
    assert 'name="token"' in linked.get("/login").text
    for wrong in ("the-ke", "the-key2", "ключ"):
        assert linked.get("/", params={"token": wrong}).status_code == 403
    entered = linked.get("/", params={"token": "the-key"})
    assert (entered.status_code, entered.headers["location"]) == (303, "/label/")
    assert linked.get("/api/v1/me").json()["name"] == "local"
    assert linked.get("/label/").status_code == 200
    assert "annotate_session_1" in linked.cookies  # of this port: another store has another
    program = TestClient(linked.app, base_url="http://localhost", headers={"Authorization": "Bearer the-key"})
    assert program.get("/api/v1/items").status_code == 200


def test_the_link_opens_nothing_once_there_are_accounts(linked: TestClient, store: Store) -> None:
    linked.get("/", params={"token": "the-key"})
    local = linked.cookies["annotate_session_1"]
    add_account(store, "ann", "admin", PASSWORD)
    with client_of(store, login=True) as later:
        later.cookies.set("annotate_session", local)
        assert later.get("/api/v1/me").status_code == 401
        assert later.get("/", params={"token": "the-key"}).headers["location"] == "/label/"
        assert later.get("/api/v1/me", headers={"Authorization": "Bearer the-key"}).status_code == 401


def test_half_a_header_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.8)  # a reply may take longer than the headers
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    monkeypatch.setattr("workbench.serve.http.HEADER_SECONDS", 0.4)
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(slow, http=Protocol, lifespan="off", log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    for sent, received in (
        (b"GET / HTTP/1.1\r\nHost: x", b""),
        (b"", b""),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"ok"),
    ):
        with socket.create_connection(listener.getsockname(), timeout=10) as connection:
            connection.sendall(sent)
            reply = b""
            while (part := connection.recv(1000)) and not reply.endswith(b"ok"):
                reply += part
                if received:
                    connection.sendall(b"GET / HTTP/1.1\r\nHost:")  # half of the next request
            assert reply.endswith(received), sent
            assert bool(reply) == bool(received), sent
            assert connection.recv(10) == b""
    server.should_exit = True
    thread.join(10)
