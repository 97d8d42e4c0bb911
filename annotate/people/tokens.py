"""API tokens: keys of an account for programs, each with a scope and an expiry. Knows no HTTP."""

import hashlib
import secrets
import time
from typing import Literal, NamedTuple, get_args

from annotate.people.accounts import find, may
from annotate.store.database import Store
from annotate.store.statements import Annotator, Token
from workbench.run.errors import WorkbenchError

Scope = Literal["label", "read", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""What a token may do: judge items; read; everything that its account may do."""
MOST_TOKENS = 20
"""Valid tokens of one account."""
LONGEST_DAYS = 3650
_LIST = "python -m annotate annotator CONFIG.yaml tokens, which lists them"


class Grant(NamedTuple):
    """The account of a token, and the token's scope."""

    account: Annotator
    scope: str


def make_token(store: Store, name: str, purpose: str, *, scope: str = "admin", days: int | None = None) -> str:
    """Make an API token for an account. This is the only time it is visible: the store keeps only its hash.

    Args:
        days: how long it is valid; None: until it is revoked.

    Raises:
        WorkbenchError: no such account or scope, a bad purpose, too many tokens, or an account that cannot use one.
    """
    if not 1 <= len(purpose) <= 64:
        raise WorkbenchError("token", "needs a name", expected="1 to 64 characters that say what it is for")
    if scope not in SCOPES:
        raise WorkbenchError("--scope", f"unknown scope {scope!r}", expected=f"one of {', '.join(SCOPES)}")
    if days is not None and not 1 <= days <= LONGEST_DAYS:
        raise WorkbenchError("--days", f"{days} is out of range", expected=f"1 to {LONGEST_DAYS:,}")
    token, now = "aw_" + secrets.token_urlsafe(32), time.time()
    ends = None if days is None else now + days * 86400
    with store.write() as transaction:
        account = find(transaction, store, name)
        if account.removed or account.simulated:
            raise WorkbenchError(f"annotator {name!r}", "cannot use the API", expected="an account of a person")
        transaction.lock_annotator(account.id)
        valid = [token for token in transaction.tokens(account.id) if token.valid(now)]
        if len(valid) >= MOST_TOKENS:
            raise WorkbenchError(
                f"annotator {name!r}",
                f"has {len(valid)} valid tokens",
                expected=f"at most {MOST_TOKENS}",
                remedy=f"revoke an unused one: annotator CONFIG.yaml token revoke {valid[0].id}",
            )
        transaction.add_token(account.id, purpose, _hash(token), now, scope=scope, expires_at=ends)
        transaction.add_event("token made", now, account.id, purpose=purpose, scope=scope, days=days)
    return token


def check_token(store: Store, token: str) -> Grant | None:
    """The account that a token belongs to; None for an unknown, revoked or expired one, and for a removed account."""
    with store.read() as transaction:
        found = transaction.annotator_by_token(_hash(token), time.time())
    return None if found is None or found[0].removed else Grant(*found)


def revoke_token(store: Store, token_id: int, *, by: Annotator | None = None) -> Token:
    """Revoke a token; `by`: its owner or an administrator (None: the command line).

    Raises:
        WorkbenchError: there is no such token, or it belongs to somebody else.
    """
    with store.write() as transaction:
        everybody = by is None or may(by, "admin")
        known = {token.id: token for token in transaction.tokens(None if everybody or by is None else by.id)}
        if token_id not in known:
            place = store.place if by is None or everybody else f"annotator {by.name!r}"
            valid = sorted(token.id for token in known.values() if token.valid(time.time()))
            expected = f"one of {valid}" if valid else "a valid token, and there is none"
            raise WorkbenchError(place, f"has no token {token_id}", expected=expected, remedy=_LIST)
        transaction.revoke_token(token_id, time.time())
        transaction.add_event(
            "token revoked", time.time(), by.id if by else None, token=token_id, owner=known[token_id].annotator
        )
    return known[token_id]


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
