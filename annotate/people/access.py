"""Who sends a request, and what they may do: by cookie, by token, or as the one local person."""

import secrets
from collections.abc import Callable

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPBearer

from annotate.people.accounts import Role, local_annotator, may
from annotate.people.sessions import Sessions
from annotate.people.tokens import Grant, check_token
from annotate.store.database import Store
from annotate.store.statements import Annotator

COOKIE = "annotate_session"
IN_OPENAPI = [Depends(HTTPBearer(auto_error=False, description="A token of an account; see docs/annotate-api.md."))]
"""Dependencies of the API's routers that declare tokens in the OpenAPI schema. `Access` decides who may do what."""


class Access:
    """Accounts behind requests."""

    def __init__(self, store: Store, *, login: bool, days: int, key: str | None = None, port: int = 0) -> None:
        """Without `login` everybody is the one local person; with a `key`, only those who have sent it once."""
        self._store, self.sessions = store, Sessions(store, days=days)
        self.local = None if login else local_annotator(store)
        self._key = key
        # Cookies do not tell ports apart, and somebody may serve several stores on one machine.
        self.cookie = COOKIE if login else f"{COOKIE}_{port}"

    def opens(self, key: str) -> bool:
        """Whether this is the key of the local person."""
        return self._key is not None and secrets.compare_digest(key.encode(), self._key.encode())

    def session(self, request: Request) -> Annotator | None:
        """The account of a request's cookie, or None."""
        account = self.sessions.account(request.cookies.get(self.cookie))
        if account is None or self.local is not None:
            return account if account == self.local else None
        return account if account.password_hash is not None else None

    def account(self, request: Request) -> Annotator | None:
        """The account, or None. If a token is sent, it alone decides."""
        token = bearer(request)
        if token is None:
            return self.local if self.local is not None and self._key is None else self.session(request)
        if self.opens(token):
            return self.local
        grant = check_token(self._store, token)
        return grant.account if grant is not None and _within(grant, request) else None

    def name(self, request: Request) -> str | None:
        """The account's name, or None."""
        account = self.account(request)
        return account.name if account else None

    def required(self, request: Request) -> Annotator:
        """The account; without one, the request ends with status 401 or 403."""
        account = self.account(request)
        if account is None:
            token = bearer(request)
            grant = None if token is None else check_token(self._store, token)
            if grant is not None:
                raise HTTPException(403, f"this token has the scope {grant.scope!r}, which does not allow this")
            raise HTTPException(401, "log in first, or send a token", headers={"WWW-Authenticate": "Bearer"})
        return account

    def closed_to(self, role: Role) -> Callable[[Request], int]:
        """A function of requests: 0 if the sender has a role, else status 401 or 403."""

        def closed(request: Request) -> int:
            account = self.account(request)
            return 401 if account is None else 0 if may(account, role) else 403

        return closed

    def role(self, role: Role) -> Callable[[Request], Annotator]:
        """A dependency of routes that need a role: the account, or status 401 or 403."""

        def with_role(request: Request) -> Annotator:
            account = self.required(request)
            if not may(account, role):
                raise HTTPException(403, f"this needs the role {role}")
            return account

        return with_role


def bearer(request: Request) -> str | None:
    """The token that a request carries, or None."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _within(grant: Grant, request: Request) -> bool:
    """Whether the scope of a token includes this request."""
    if grant.scope == "read":
        return request.method in ("GET", "HEAD")
    if grant.scope == "label":
        return "label" in getattr(request.scope.get("route"), "tags", ())
    return grant.scope == "admin"
