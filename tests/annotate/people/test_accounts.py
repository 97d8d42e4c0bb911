"""Accounts: states, passwords, tokens, on both databases; and the command line that changes them."""

import time
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from annotate.people.accounts import (
    add_account,
    check_password,
    has_accounts,
    may,
    set_password,
    set_role,
    set_state,
)
from annotate.people.commands import change_accounts
from annotate.people.sessions import Sessions
from annotate.people.tokens import MOST_TOKENS, Grant, check_token, make_token, revoke_token
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
    assert check_token(store, token) == Grant(_account(store, "ann"), "admin")
    assert check_token(store, token[:-1]) is None
    assert check_token(store, "") is None
    with pytest.raises(WorkbenchError, match="has no token"):
        revoke_token(store, shown.id, by=_account(store, "ann")._replace(id=99))  # another's
    revoke_token(store, shown.id, by=_account(store, "ann"))
    assert check_token(store, token) is None


def test_a_new_password_ends_tokens(store: Store) -> None:
    own, other = make_token(store, "ann", "notebook"), make_token(store, "lead", "notebook")
    set_password(store, "ann", "another password")
    assert check_token(store, own) is None
    assert check_token(store, other) is not None


def test_a_token_ends_with_its_days(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    short, endless = make_token(store, "ann", "short", days=2), make_token(store, "ann", "endless")
    now = time.time()
    monkeypatch.setattr("annotate.people.tokens.time.time", lambda: now + 2 * 86400 - 60)
    assert check_token(store, short) is not None
    monkeypatch.setattr("annotate.people.tokens.time.time", lambda: now + 2 * 86400 + 60)
    assert check_token(store, short) is None
    assert check_token(store, endless) is not None


def test_an_account_has_only_so_many_tokens(store: Store) -> None:
    first = make_token(store, "ann", "first", days=1)
    for _ in range(MOST_TOKENS - 1):
        make_token(store, "ann", "more")
    with pytest.raises(WorkbenchError, match=rf"has {MOST_TOKENS} valid tokens[\s\S]*token revoke 1"):
        make_token(store, "ann", "one more")
    make_token(store, "lead", "of another")
    revoke_token(store, 1)
    assert check_token(store, first) is None
    make_token(store, "ann", "one more")


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda store: set_state(store, "an", "paused"), "did you mean 'ann'"),
        (lambda store: set_state(store, "ann", "gone"), "unknown state"),
        (lambda store: set_password(store, "ann", "short"), "too short"),
        (lambda store: set_password(store, "ann", "x" * 1001), "too long"),
        (lambda store: make_token(store, "ann", ""), "needs a name"),
        (lambda store: make_token(store, "nobody", "x"), "has no annotator"),
        (lambda store: make_token(store, "ann", "x", scope="write"), "unknown scope 'write'"),
        (lambda store: make_token(store, "ann", "x", days=0), "out of range"),
        (lambda store: revoke_token(store, 7), "has no token 7"),
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


@pytest.mark.parametrize("name", ["Zoë", "李雷", "Łukasz", "กานดา", "o.m@x-1", "٣عمر"])
def test_names_are_letters_of_any_script(store: Store, name: str) -> None:
    add_account(store, unicodedata.normalize("NFD", name), "annotator", PASSWORD)
    for written in (name, unicodedata.normalize("NFD", name), name.upper()):
        account = check_password(store, written, PASSWORD)
        assert account is not None
        assert account.name == unicodedata.normalize("NFC", name)
    sessions = Sessions(store, days=1)
    assert sessions.account(sessions.issue(account)) == account


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["", "a b", "-ann", "ann\u202e", "ann\u200b", "a/b", "a\nb", "a" * 65, "\u0301a", "<b>"]
)
def test_what_is_no_name_is_refused_with_the_rule(store: Store, name: str) -> None:
    with pytest.raises(WorkbenchError, match="letters or digits of any script"):
        add_account(store, name, "annotator", PASSWORD)


@pytest.mark.parametrize("name", ["Ann", "ANN", "ａｎｎ"])
def test_case_and_width_make_no_other_person(store: Store, name: str) -> None:
    with pytest.raises(WorkbenchError, match=r"already has an annotator 'ann'[\s\S]*more than case"):
        add_account(store, name, "annotator", PASSWORD)
    set_state(store, name, "paused")
    assert _account(store, "ann").state == "paused"


def test_of_two_old_accounts_each_has_its_exact_name(store: Store) -> None:
    with store.write() as transaction:
        transaction.add_annotator("Ann", "annotator", 0.0, password_hash="$argon2id$none")
    found = check_password(store, "ann", PASSWORD)
    assert found is not None
    assert found.name == "ann"
    assert check_password(store, "ANN", PASSWORD) is None


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
    assert check_token(store, token) == Grant(_account(store, "ann"), "admin")
    change_accounts(store, ("token", "bea"), "", scope="read", days=30)
    capsys.readouterr()
    change_accounts(store, ("tokens",), "")
    change_accounts(store, ("tokens", "ann"), "")
    until = datetime.fromtimestamp(time.time() + 30 * 86400, UTC)
    mine = "1  ann  notebook  admin"
    assert capsys.readouterr().out.splitlines() == [mine, f"2  bea  command line  read  until {until:%Y-%m-%d}", mine]
    change_accounts(store, ("token", "revoke", "1"), "")
    assert capsys.readouterr().out == "token 1 of ann (notebook) is revoked\n"
    assert check_token(store, token) is None
    for words in ((), ("pause",), ("list", "ann"), ("dismiss", "ann")):
        with pytest.raises(WorkbenchError, match="cannot read"):
            change_accounts(store, words, "annotator")


def test_a_token_that_cannot_be_revoked_says_why(store: Store) -> None:
    with pytest.raises(WorkbenchError, match=r"has no token 999[\s\S]*there is none[\s\S]*lists them"):
        change_accounts(store, ("token", "revoke", "999"), "")
    with pytest.raises(WorkbenchError, match=r"'abc' is not the number of a token"):
        change_accounts(store, ("token", "revoke", "abc"), "")
