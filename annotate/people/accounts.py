"""Accounts: who may label, review and administer; passwords (argon2), pausing and removing."""

import functools
import time
from typing import Literal, get_args

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from annotate.store.database import Store
from annotate.store.names import ALLOWED, allowed, fold, normal
from annotate.store.statements import Annotator, Transaction
from workbench.run.errors import WorkbenchError, did_you_mean

Role = Literal["annotator", "reviewer", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
"""Each includes the ones before it: label; see all judgements, adjudicate, export; manage people, load."""
State = Literal["active", "paused", "removed"]
STATES: tuple[State, ...] = get_args(State)
LOCAL = "local"
"""The name of the account for the one person who labels on this machine without a login."""

_SHORTEST_PASSWORD, _LONGEST_PASSWORD = 8, 1000
_hasher = PasswordHasher()


@functools.cache
def _hash_of_nobody() -> str:
    return _hasher.hash("no account has this password")


def may(account: Annotator, role: Role) -> bool:
    """Whether an account has a role or a higher one."""
    return account.role in ROLES and ROLES.index(account.role) >= ROLES.index(role)


def add_account(store: Store, name: str, role: str, password: str) -> None:
    """Create an account.

    Raises:
        WorkbenchError: a bad name, role or password, or a name that is taken.
    """
    name = normal(name)
    if not allowed(name):
        raise WorkbenchError("name", f"{name!r} cannot be a name", expected=ALLOWED)
    if role not in ROLES:
        raise WorkbenchError("--role", f"unknown role {role!r}", expected=f"one of {', '.join(ROLES)}")
    password_hash = _hash(password)
    with store.write() as transaction:
        transaction.begin_adding()
        same = [known.name for known in transaction.annotators() if fold(known.name) == fold(name)]
        if same:
            raise WorkbenchError(
                store.place,
                f"already has an annotator {same[0]!r}",
                expected="names that differ in more than case",
                remedy="choose another name",
            )
        transaction.add_annotator(name, role, time.time(), password_hash=password_hash)
        transaction.add_event("account added", time.time(), name=name, role=role)


def _hash(password: str) -> str:
    if len(password) < _SHORTEST_PASSWORD:
        raise WorkbenchError("password", "is too short", expected=f"at least {_SHORTEST_PASSWORD} characters")
    if len(password) > _LONGEST_PASSWORD:
        raise WorkbenchError("password", "is too long", expected=f"at most {_LONGEST_PASSWORD} characters")
    return _hasher.hash(password)


def look_up(transaction: Transaction, name: str) -> Annotator | None:
    """The account of a name, or the only account whose name differs from it only in case."""
    exact = transaction.annotator(normal(name))
    if exact is not None:
        return exact
    same = [known for known in transaction.annotators() if fold(known.name) == fold(name)]
    return same[0] if len(same) == 1 else None


def find(transaction: Transaction, store: Store, name: str) -> Annotator:
    """The account of a name.

    Raises:
        WorkbenchError: there is none.
    """
    account = look_up(transaction, name)
    if account is None:
        names = [known.name for known in transaction.annotators()]
        remedy = did_you_mean(name, names) if names else "add one: annotator CONFIG.yaml add NAME"
        raise WorkbenchError(store.place, f"has no annotator {name!r}", remedy=remedy)
    return account


def set_password(store: Store, name: str, password: str) -> None:
    """Give an account a new password, and end its logins and tokens.

    Raises:
        WorkbenchError: no such account, or a bad password.
    """
    password_hash = _hash(password)
    with store.write() as transaction:
        account = find(transaction, store, name)
        if account.simulated:
            raise WorkbenchError(store.place, f"{name!r} is a simulated annotator: it cannot log in")
        transaction.change_annotator(
            account.id, password_hash=password_hash, session_version=account.session_version + 1
        )
        transaction.end_tokens_of(account.id, time.time())
        transaction.add_event("password set", time.time(), name=name)


def set_role(store: Store, name: str, role: str, *, by: Annotator | None = None) -> None:
    """Give an account another role; it takes effect with the next request.

    Raises:
        WorkbenchError: no such account or role, an account that cannot log in, or the last administrator.
    """
    if role not in ROLES:
        raise WorkbenchError("role", f"unknown role {role!r}", expected=f"one of {', '.join(ROLES)}")
    with store.write() as transaction:
        account = find(transaction, store, name)
        if account.role == role:
            return
        if account.password_hash is None:
            raise WorkbenchError(
                f"annotator {name!r}", "cannot log in, so its role cannot change", expected="an account with a password"
            )
        _keep_an_administrator(transaction, account)
        transaction.change_annotator(account.id, role=role)
        change = {"name": name, "before": account.role, "after": role}
        transaction.add_event("role changed", time.time(), by.id if by else None, **change)


def set_state(store: Store, name: str, state: str, *, by: Annotator | None = None) -> None:
    """Make an account active, paused or removed.

    A paused account gets no items, and its leases end. A removed account also cannot log in, and its judgements no
    longer count in exports and agreement: the items that it judged are handed out again. Nothing is deleted; `active`
    undoes it.

    Raises:
        WorkbenchError: no such account or state, or the last administrator.
    """
    if state not in STATES:
        raise WorkbenchError("state", f"unknown state {state!r}", expected=f"one of {', '.join(STATES)}")
    with store.write() as transaction:
        account = find(transaction, store, name)
        if account.state == state:
            return
        if state != "active":
            _keep_an_administrator(transaction, account)
            transaction.end_leases_of(account.id)
        if "removed" in (state, account.state):
            transaction.recount(account, -1 if state == "removed" else 1)
        transaction.change_annotator(account.id, state=state)
        change = {"name": name, "before": account.state, "after": state}
        transaction.add_event("state changed", time.time(), by.id if by else None, **change)


def _keep_an_administrator(transaction: Transaction, leaving: Annotator) -> None:
    admins = [a for a in transaction.annotators() if a.role == "admin" and a.password_hash and a.state == "active"]
    if [a.id for a in admins] == [leaving.id]:
        raise WorkbenchError(
            f"annotator {leaving.name!r}", "is the only administrator", remedy="add another administrator first"
        )


def has_accounts(store: Store) -> bool:
    """Whether there is an account that can log in."""
    with store.read() as transaction:
        return any(account.password_hash and not account.removed for account in transaction.annotators())


def local_annotator(store: Store) -> Annotator:
    """The account of the one local person, used without a login."""
    with store.write() as transaction:
        if transaction.annotator(LOCAL) is None:
            transaction.add_annotator(LOCAL, "admin", time.time())
        account = transaction.annotator(LOCAL)
    assert account is not None
    return account


def visitor(store: Store, name: str) -> Annotator:
    """The account of somebody whom another application has identified; made if there is none, without a password.

    Raises:
        WorkbenchError: the name is not allowed, or belongs to a simulated annotator.
    """
    with store.read() as transaction:
        account = look_up(transaction, name)
    if account is None:
        name = normal(name)
        if not allowed(name):
            raise WorkbenchError("annotator", f"{name!r} cannot be a name", expected=ALLOWED)
        with store.write() as transaction:
            transaction.begin_adding()
            account = look_up(transaction, name)  # it may have been made meanwhile
            if account is None:
                transaction.add_annotator(name, "annotator", time.time())
                transaction.add_event("account added", time.time(), name=name, role="annotator")
                account = transaction.annotator(name)
    assert account is not None
    if account.simulated:
        raise WorkbenchError("annotator", f"{name!r} is a simulated annotator", remedy="choose another name")
    return account


def check_password(store: Store, name: str, password: str) -> Annotator | None:
    """The account with this name and password, or None; an unknown name takes as long to check."""
    with store.read() as transaction:
        account = look_up(transaction, name)
    usable = account is not None and not account.removed and account.password_hash is not None
    stored = account.password_hash if account is not None and usable else None
    try:
        _hasher.verify(stored or _hash_of_nobody(), password[: _LONGEST_PASSWORD + 1])
    except (VerificationError, InvalidHashError):
        return None
    return account if usable else None
