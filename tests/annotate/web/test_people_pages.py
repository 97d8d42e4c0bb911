"""The page of accounts: adding, roles, passwords; what cannot be done is said and changes nothing."""

from collections.abc import Callable

from fastapi.testclient import TestClient

from annotate.people.accounts import check_password
from annotate.people.tokens import check_token, make_token
from annotate.store.database import Store
from annotate.store.statements import Annotator
from tests.annotate.conftest import PASSWORD, client_of


def _account(store: Store, name: str) -> Annotator | None:
    with store.read() as transaction:
        return transaction.annotator(name)


def test_an_account_is_added_and_can_log_in(client: TestClient, filled: Store, log_in: Callable[..., None]) -> None:
    log_in("lead")
    reply = client.post("/lead/people", data={"name": "cid", "role": "reviewer", "password": PASSWORD})
    assert (reply.status_code, reply.headers["location"]) == (303, "/lead/people")
    assert "/lead/people/cid?state=paused" in client.get("/lead/people").text
    log_in("cid")
    assert client.get("/lead").status_code == 200
    assert "/lead/people" not in client.get("/lead").text  # reviewers do not change accounts
    assert client.get("/lead/people").status_code == 403


def test_a_role_holds_from_the_next_request(client: TestClient, filled: Store, log_in: Callable[..., None]) -> None:
    own = {"Authorization": f"Bearer {make_token(filled, 'ann', 'test')}"}
    log_in("lead")
    for role, status in (("reviewer", 200), ("annotator", 403)):
        assert client.post("/lead/people/ann/role", data={"role": role}).status_code == 303
        assert client.get("/lead", headers=own).status_code == status
    with filled.read() as transaction:
        changes = [event["detail"] for event in transaction.events() if event["kind"] == "role changed"]
    assert changes[0] == {"name": "ann", "before": "annotator", "after": "reviewer"}


def test_a_password_is_changed_and_ends_logins(client: TestClient, filled: Store, log_in: Callable[..., None]) -> None:
    log_in("ann")
    own = dict(client.cookies)
    log_in("lead")
    reply = client.post("/lead/people/ann/password", data={"password": "another password"})
    assert reply.status_code == 303
    assert "another password" not in client.get("/lead/people").text
    client.cookies.clear()
    client.cookies.update(own)
    assert client.get("/api/v1/me").status_code == 401
    assert check_password(filled, "ann", "another password") is not None


def test_an_admin_ends_anybodys_token(client: TestClient, filled: Store, log_in: Callable[..., None]) -> None:
    tokens = [make_token(filled, "ann", "nightly <b>", scope="read", days=30), make_token(filled, "rev", "other")]
    log_in("lead")
    page = client.get("/lead/people").text
    assert "nightly &lt;b&gt;" in page
    assert 'action="/lead/people/ann/tokens/1"' in page
    assert client.post("/lead/people/ann/tokens/1").status_code == 303
    assert check_token(filled, tokens[0]) is None
    assert check_token(filled, tokens[1]) is not None
    assert "nightly" not in client.get("/lead/people").text
    reply = client.post("/lead/people/ann/tokens/99")
    assert (reply.status_code, "has no token 99" in reply.text) == (409, True)
    log_in("rev")
    assert client.post("/lead/people/lead/tokens/2").status_code == 403


def test_what_cannot_be_done_is_said(client: TestClient, filled: Store, log_in: Callable[..., None]) -> None:
    log_in("lead")
    tries = [
        ("/lead/people", {"name": "a b", "password": PASSWORD}, "cannot be a name"),
        ("/lead/people", {"name": "ann", "password": PASSWORD}, "already has an annotator"),
        ("/lead/people", {"name": "<b>", "password": PASSWORD}, "&lt;b&gt;"),
        ("/lead/people", {"name": "dan", "password": "short"}, "at least 8"),
        ("/lead/people", {"name": "dan", "role": "king", "password": PASSWORD}, "unknown role"),
        ("/lead/people/lead/role", {"role": "annotator"}, "only administrator"),
        ("/lead/people/ann/role", {"role": "king"}, "unknown role"),
        ("/lead/people/ann/password", {"password": "short"}, "at least 8"),
    ]
    for address, data, said in tries:
        reply = client.post(address, data=data)
        assert (reply.status_code, said in reply.text) == (409, True), (address, reply.text)
    assert client.post("/lead/people/nobody/role", data={"role": "admin"}).status_code == 404
    assert _account(filled, "dan") is None
    lead, ann = _account(filled, "lead"), _account(filled, "ann")
    assert lead is not None
    assert ann is not None
    assert (lead.role, ann.role) == ("admin", "annotator")


def test_without_a_login_the_page_says_what_an_account_changes(store: Store) -> None:
    with client_of(store, login=False) as client:
        assert "asks for logins from its next start" in client.get("/lead/people").text
        assert (
            client.post("/lead/people", data={"name": "lead", "role": "admin", "password": PASSWORD}).status_code == 303
        )
        assert client.post("/lead/people/local/role", data={"role": "annotator"}).status_code == 409
