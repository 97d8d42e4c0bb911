"""Login and logout: the form, the cookie, and a brake on guessing; where nobody has an account, the link of `serve`."""

from functools import partial
from typing import Annotated

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from annotate.people.access import Access
from annotate.people.accounts import check_password
from annotate.people.sessions import Brake
from annotate.store.database import Store
from annotate.store.names import fold
from annotate.store.statements import Annotator
from annotate.web.contents import PageContents
from annotate.web.page import login_html

HASHED_AT_ONCE = 2
"""Passwords checked at one time: each takes a core and 64 MiB."""
MOST_WAITING = 50
"""Logins that wait for that; more are sent away at once."""


class Tries:
    """Tries of logins: five a minute for a name from one address, thirty for a name.

    An address counts only together with a name: behind a proxy, all people may share one.
    """

    def __init__(self) -> None:
        self._by_both, self._by_name = Brake(failures=5, seconds=60), Brake(failures=30, seconds=60)

    def take(self, name: str, address: str) -> float:
        """Take a slot before a password is checked: 0, or the seconds to wait."""
        wait = self._by_both.take(f"{address} {name}")
        if wait == 0:
            wait = self._by_name.take(name)
            if wait > 0:
                self._by_both.give_back(f"{address} {name}")
        return wait

    def give_back(self, name: str, address: str) -> None:
        """The password was right."""
        self._by_both.give_back(f"{address} {name}")
        self._by_name.give_back(name)


class Entrance:
    """What the routes share: the form, and the cookie."""

    def __init__(self, access: Access, contents: PageContents, *, page: str, assets: str, https: bool) -> None:
        self.access, self._contents = access, contents
        self.page, self._assets, self._https = page, assets, https

    def form(self, status: int = 200, problem: str | None = None, **values: object) -> Response:
        """The form, with what is wrong."""
        link = self.access.local is not None
        text = login_html(self._contents, self._assets, problem, link=link, **values)
        return HTMLResponse(text, status, headers={"Cache-Control": "no-store"})

    def let_in(self, request: Request, account: Annotator) -> Response:
        """The way to the page, with a cookie."""
        response = RedirectResponse(self.page, 303)
        response.set_cookie(
            self.access.cookie,
            self.access.sessions.issue(account),
            max_age=self.access.sessions.seconds,
            httponly=True,
            samesite="lax",
            secure=self._https or request.url.scheme == "https",
        )
        return response


def login_routes(store: Store, entrance: Entrance) -> APIRouter:
    """The routes that let people in and out."""
    router = APIRouter(include_in_schema=False)
    _by_link(router, entrance)
    _by_password(router, store, entrance)
    return router


def _by_link(router: APIRouter, entrance: Entrance) -> None:
    access = entrance.access

    @router.get("/")
    def root(request: Request, token: str | None = None) -> Response:
        if token is None or access.local is None:
            return RedirectResponse(entrance.page, 303)
        if not access.opens(token):
            return entrance.form(403, "login.token.wrong")
        return entrance.let_in(request, access.local)

    @router.post("/logout")
    def logout(request: Request) -> Response:
        account = access.session(request)
        if account is not None:
            access.sessions.end(account)
        response = RedirectResponse("/login", 303)
        response.delete_cookie(access.cookie)
        return response


def _by_password(router: APIRouter, store: Store, entrance: Entrance) -> None:
    tries, hashing = Tries(), CapacityLimiter(HASHED_AT_ONCE)

    @router.get("/login")
    def show(request: Request) -> Response:
        known = entrance.access.account(request) is not None
        return RedirectResponse(entrance.page, 303) if known else entrance.form()

    @router.post("/login")
    async def login(request: Request, name: Annotated[str, Form()], password: Annotated[str, Form()]) -> Response:
        who, address = fold(name[:200]), request.client.host if request.client else ""
        busy = hashing.statistics().tasks_waiting >= MOST_WAITING
        wait = 10.0 if busy else tries.take(who, address)
        if wait > 0:
            return await to_thread.run_sync(partial(entrance.form, 429, "login.wait", seconds=f"{wait:.0f}"))
        account = await to_thread.run_sync(check_password, store, name[:200], password, limiter=hashing)
        if account is None:
            return await to_thread.run_sync(entrance.form, 403, "login.wrong")
        tries.give_back(who, address)
        return await to_thread.run_sync(entrance.let_in, request, account)
