import socket
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from annotate.intake.items import load_items
from annotate.people.accounts import add_account, check_password, has_accounts
from annotate.people.sessions import Brake, Sessions
from annotate.store.database import Store
from annotate.web.app import listen, login_needed
from tests.annotate.conftest import PASSWORD, client_of, make_item
from workbench.run.errors import WorkbenchError


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
    load_items(store, [make_item("a")], overlap=1, overlap_share=0)
    with client_of(store, login=False) as client:
        assert client.post("/api/v1/me").json() == {
            "name": "local",
            "role": "admin",
            "state": "active",
            "login": False,
        }
        assert client.get("/label/").status_code == 200
        # A page elsewhere that points its own name at 127.0.0.1 sends that name.
        assert client.post("/api/v1/next", headers={"Host": "evil.example"}).status_code == 403


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
    brake.failed("a")
    assert brake.wait("a") == 0
    now[0] = 4
    brake.failed("a")
    assert brake.wait("a", "b") == 6
    assert brake.wait("b") == 0
    now[0] = 10.5
    assert brake.wait("a") == 0
