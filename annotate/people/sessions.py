"""Logins: signed cookies that survive a restart, and a rate limit on password attempts."""

import threading
import time
from collections import deque
from collections.abc import Callable

from itsdangerous import BadSignature, URLSafeTimedSerializer

from annotate.store.database import Store
from annotate.store.statements import Annotator

_MOST_KEYS = 10_000
"""Above this number of keys, expired ones are dropped."""


class Sessions:
    """Signed cookies: the cookie names the account, and the signing key is in the store."""

    def __init__(self, store: Store, *, days: int) -> None:
        self._store, self.seconds = store, days * 86400
        with store.read() as transaction:
            key = transaction.setting("cookie_key")
        assert key is not None  # written when the store is made
        self._serializer = URLSafeTimedSerializer(key, salt="session")

    def issue(self, account: Annotator) -> str:
        """A cookie value for this account, which has just logged in."""
        with self._store.write() as transaction:
            transaction.add_event("logged in", time.time(), account.id)
        return self._serializer.dumps([account.name, account.session_version])

    def end(self, account: Annotator) -> None:
        """End every login of this account, on every device: its cookies become invalid."""
        with self._store.write() as transaction:
            transaction.change_annotator(account.id, session_version=account.session_version + 1)
            transaction.add_event("logged out", time.time(), account.id)

    def account(self, cookie: str | None) -> Annotator | None:
        """The account of a cookie; None for a forged, expired or revoked one."""
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
    """Limits password attempts: at most `failures` per key within `seconds`, then refusal until a slot is free.

    An attempt takes a slot before the password is checked, so that concurrent attempts count too; a success returns it.
    """

    def __init__(self, *, failures: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._seconds, self._clock = failures, seconds, clock
        self._taken: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def take(self, key: str) -> float:
        """Take a slot: 0; or, if all are taken, the seconds until one is free."""
        now = self._clock()
        with self._lock:
            if len(self._taken) >= _MOST_KEYS:
                self._taken = {k: times for k, times in self._taken.items() if times[-1] > now - self._seconds}
            times = self._taken.setdefault(key, deque())
            while times and times[0] <= now - self._seconds:
                times.popleft()
            if len(times) >= self._most:
                return times[0] + self._seconds - now
            times.append(now)
        return 0.0

    def give_back(self, key: str) -> None:
        """Return the slot that was taken last."""
        with self._lock:
            times = self._taken.get(key)
            if times:
                times.pop()
            if not times:
                self._taken.pop(key, None)
