"""Accounts and logins: passwords (argon2), signed cookies that outlive a restart, a brake on guessing."""

import functools
import re
import time
from collections import deque
from collections.abc import Callable
from typing import Literal

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from itsdangerous import BadSignature, URLSafeTimedSerializer

from annotate.statements import Annotator
from annotate.store import Store
from workbench.run.errors import WorkbenchError

Role = Literal["annotator", "reviewer", "admin"]
ROLES: tuple[Role, ...] = ("annotator", "reviewer", "admin")
LOCAL = "local"
"""The name in the store of the one person who labels on this machine without a login."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_SHORTEST_PASSWORD = 8
_hasher = PasswordHasher()


@functools.cache
def _hash_of_nobody() -> str:
    return _hasher.hash("no account has this password")


def add_account(store: Store, name: str, role: str, password: str) -> None:
    """Create an account.

    Raises:
        WorkbenchError: bad name or role, short password, or a name that is taken.
    """
    if not _NAME.fullmatch(name):
        raise WorkbenchError("name", f"{name!r} cannot be a name", expected="1 to 64 letters, digits, and . _ @ -")
    if role not in ROLES:
        raise WorkbenchError("--role", f"unknown role {role!r}", expected=f"one of {', '.join(ROLES)}")
    if len(password) < _SHORTEST_PASSWORD:
        raise WorkbenchError("password", "is too short", expected=f"at least {_SHORTEST_PASSWORD} characters")
    with store.write() as transaction:
        if transaction.annotator(name) is not None:
            raise WorkbenchError(store.place, f"already has an annotator {name!r}", remedy="take another name")
        transaction.add_annotator(name, role, time.time(), password_hash=_hasher.hash(password))
        transaction.add_event("account added", time.time(), name=name, role=role)


def has_accounts(store: Store) -> bool:
    """Whether anybody can log in."""
    with store.read() as transaction:
        return any(account.password_hash and not account.removed for account in transaction.annotators())


def local_annotator(store: Store) -> Annotator:
    """The one person of the mode without login."""
    with store.write() as transaction:
        if transaction.annotator(LOCAL) is None:
            transaction.add_annotator(LOCAL, "admin", time.time())
        account = transaction.annotator(LOCAL)
    assert account is not None
    return account


def check_password(store: Store, name: str, password: str) -> Annotator | None:
    """The account that name and password belong to; takes as long for a name that does not exist."""
    with store.read() as transaction:
        account = transaction.annotator(name)
    usable = account is not None and not account.removed and account.password_hash is not None
    stored = account.password_hash if account is not None and usable else None
    try:
        _hasher.verify(stored or _hash_of_nobody(), password)
    except (VerificationError, InvalidHashError):
        return None
    return account if usable else None


class Sessions:
    """Signed cookies: who is logged in is in the cookie, and the key that signs it is in the store."""

    def __init__(self, store: Store, *, days: int) -> None:
        self._store, self.seconds = store, days * 86400
        with store.read() as transaction:
            key = transaction.setting("cookie_key")
        assert key is not None  # written when the store is made
        self._serializer = URLSafeTimedSerializer(key, salt="session")

    def issue(self, account: Annotator) -> str:
        """A cookie value for this account."""
        return self._serializer.dumps([account.name, account.session_version])

    def account(self, cookie: str | None) -> Annotator | None:
        """Whom a cookie belongs to; None for a forged, old or revoked one."""
        if not cookie:
            return None
        try:
            name, version = self._serializer.loads(cookie, max_age=self.seconds)
        except (BadSignature, ValueError):
            return None
        with self._store.read() as transaction:
            account = transaction.annotator(name)
        if account is None or account.removed or account.session_version != version:
            return None
        return account


class Brake:
    """Slows down guessing: so many failures of one key in a time, then refusal until the time has passed."""

    def __init__(self, *, failures: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._seconds, self._clock = failures, seconds, clock
        self._failed: dict[str, deque[float]] = {}

    def wait(self, *keys: str) -> float:
        """Seconds until another try is allowed; 0 now."""
        now = self._clock()
        waits = [0.0]
        for key in keys:
            times = self._failed.get(key, deque())
            while times and times[0] <= now - self._seconds:
                times.popleft()
            if len(times) >= self._most:
                waits.append(times[0] + self._seconds - now)
            elif not times:
                self._failed.pop(key, None)
        return max(waits)

    def failed(self, *keys: str) -> None:
        """Note a failure."""
        for key in keys:
            self._failed.setdefault(key, deque()).append(self._clock())
