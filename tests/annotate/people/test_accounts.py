"""Accounts: states, passwords, tokens, on both databases; and the command line that changes them."""

from collections.abc import Callable

import pytest

from annotate.people.accounts import (
    add_account,
    check_password,
    check_token,
    has_accounts,
    make_token,
    may,
    revoke_token,
    set_password,
    set_role,
    set_state,
)
from annotate.people.commands import change_accounts
from annotate.people.sessions import Sessions
from annotate.store.database import Store
from annotate.store.statements import Annotator
from tests.annotate.conftest import PASSWORD
from workbench.run.errors import WorkbenchError


@pytest.fixture
def store(either_store: Store) -> Store:
    add_account(either_store, "lead", "admin", PASSWORD)
    add_account(either_store, "ann", "annotator", PASSWORD)
    return either_store


def _account(store: Store, name: str) -> Annotator:
    with store.read() as transaction:
        account = transaction.annotator(name)
    assert account is not None
    return account


def test_a_role_may_what_those_below_may(store: Store) -> None:
    ann, lead = _account(store, "ann"), _account(store, "lead")
    assert [may(ann, role) for role in ("annotator", "reviewer", "admin")] == [True, False, False]
    assert [may(lead, role) for role in ("annotator", "reviewer", "admin")] == [True, True, True]
    assert not may(ann._replace(role="unheard of"), "annotator")


def test_a_new_password_ends_older_logins(store: Store) -> None:
    sessions = Sessions(store, days=1)
    cookie = sessions.issue(_account(store, "ann"))
    assert sessions.account(cookie) is not None
    with store.read() as transaction:
        assert transaction.events()[-1]["kind"] == "logged in"
    set_password(store, "ann", "another password")
    assert sessions.account(cookie) is None
    assert check_password(store, "ann", PASSWORD) is None
    assert check_password(store, "ann", "another password") is not None


def test_a_removed_account_is_shut_out_and_can_come_back(store: Store) -> None:
    sessions = Sessions(store, days=1)
    cookie, token = sessions.issue(_account(store, "ann")), make_token(store, "ann", "notebook")
    set_state(store, "ann", "paused")
    assert sessions.account(cookie) is not None  # sees why there is nothing to do
    set_state(store, "ann", "removed")
    assert sessions.account(cookie) is None
    assert check_token(store, token) is None
    assert check_password(store, "ann", PASSWORD) is None
    set_state(store, "ann", "active")
    assert check_token(store, token) is not None


def test_tokens_are_hashed_and_end_when_revoked(store: Store) -> None:
    token = make_token(store, "ann", "notebook")
    assert len(token) >= 43
    with store.read() as transaction:
        (row,) = transaction._connection.exec_driver_sql("SELECT token_hash FROM api_token").all()
        (shown,) = transaction.tokens()
    assert token not in row[0]
    assert (shown.annotator, shown.name, shown.revoked_at) == ("ann", "notebook", None)
    assert check_token(store, token) == _account(store, "ann")
    assert check_token(store, token[:-1]) is None
    assert check_token(store, "") is None
    with pytest.raises(WorkbenchError, match="has no token"):
        revoke_token(store, "lead", shown.id)  # another's
    revoke_token(store, "ann", shown.id)
    assert check_token(store, token) is None


def test_a_role_changes_and_the_last_administrator_keeps_it(store: Store) -> None:
    with pytest.raises(WorkbenchError, match="only administrator"):
        set_role(store, "lead", "reviewer")
    set_role(store, "ann", "admin", by=_account(store, "lead"))
    set_role(store, "ann", "admin")  # as it is
    set_role(store, "lead", "annotator")
    assert [_account(store, name).role for name in ("ann", "lead")] == ["admin", "annotator"]
    with store.read() as transaction:
        assert [event["kind"] for event in transaction.events()].count("role changed") == 2
    with pytest.raises(WorkbenchError, match="unknown role 'king'"):
        set_role(store, "ann", "king")
    with store.write() as transaction:
        transaction.add_annotator("machine", "annotator", 0.0, simulated=True)
    with pytest.raises(WorkbenchError, match="cannot log in"):
        set_role(store, "machine", "admin")


def test_the_last_administrator_stays(store: Store) -> None:
    with pytest.raises(WorkbenchError, match="only administrator"):
        set_state(store, "lead", "removed")
    add_account(store, "second", "admin", PASSWORD)
    set_state(store, "lead", "removed")
    assert has_accounts(store)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda store: set_state(store, "an", "paused"), "did you mean 'ann'"),
        (lambda store: set_state(store, "ann", "gone"), "unknown state"),
        (lambda store: set_password(store, "ann", "short"), "too short"),
        (lambda store: set_password(store, "ann", "x" * 1001), "too long"),
        (lambda store: make_token(store, "ann", ""), "needs a name"),
        (lambda store: make_token(store, "nobody", "x"), "has no annotator"),
    ],
)
def test_bad_changes_are_explained(store: Store, change: Callable[[Store], object], problem: str) -> None:
    with pytest.raises(WorkbenchError, match=problem):
        change(store)


def test_simulated_annotators_cannot_log_in(store: Store) -> None:
    with store.write() as transaction:
        transaction.add_annotator("machine", "annotator", 0.0, simulated=True)
    with pytest.raises(WorkbenchError, match="cannot log in"):
        set_password(store, "machine", PASSWORD)
    with pytest.raises(WorkbenchError, match="cannot use the API"):
        make_token(store, "machine", "x")


def test_the_command_line_changes_accounts(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    monkeypatch.setattr("sys.stdin.readline", lambda: PASSWORD + "\n", raising=False)
    for words in (("add", "bea"), ("pause", "bea"), ("remove", "ann"), ("password", "lead"), ("list",)):
        change_accounts(store, words, "reviewer")
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "ann  annotator  (removed)",
        "bea  reviewer  (paused)",
        "lead  admin",
    ]
    change_accounts(store, ("resume", "ann"), "")
    change_accounts(store, ("token", "ann", "notebook"), "")
    token = capsys.readouterr().out.splitlines()[-1]
    assert check_token(store, token) == _account(store, "ann")
    for words in ((), ("pause",), ("list", "ann"), ("dismiss", "ann")):
        with pytest.raises(WorkbenchError, match="cannot read"):
            change_accounts(store, words, "annotator")
