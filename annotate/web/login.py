"""Login and logout: the form, the cookie, and a brake on guessing."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from annotate.people.access import COOKIE, Access
from annotate.people.accounts import check_password
from annotate.people.sessions import Brake
from annotate.store.database import Store
from annotate.web.contents import PageContents
from annotate.web.page import login_html


def login_routes(
    store: Store, access: Access, contents: PageContents, *, page: str, assets: str, https: bool
) -> APIRouter:
    """The routes that let people in (to `page`) and out."""
    router = APIRouter(include_in_schema=False)
    # A name is locked early; an address late, because many people may share one.
    by_name, by_address = Brake(failures=5, seconds=60), Brake(failures=30, seconds=60)

    def form(status: int = 200, problem: str | None = None, **values: object) -> Response:
        text = login_html(contents, assets, problem, **values)
        return HTMLResponse(text, status, headers={"Cache-Control": "no-store"})

    @router.get("/login")
    def show(request: Request) -> Response:
        return form() if access.account(request) is None else RedirectResponse(page, 303)

    @router.post("/login")
    def login(request: Request, name: Annotated[str, Form()], password: Annotated[str, Form()]) -> Response:
        who, address = name[:64], request.client.host if request.client else ""
        wait = max(by_name.wait(who), by_address.wait(address))
        if wait > 0:
            return form(429, "login.wait", seconds=f"{wait:.0f}")
        account = check_password(store, who, password)
        if account is None:
            by_name.failed(who)
            by_address.failed(address)
            return form(403, "login.wrong")
        response = RedirectResponse(page, 303)
        response.set_cookie(
            COOKIE,
            access.sessions.issue(account),
            max_age=access.sessions.seconds,
            httponly=True,
            samesite="lax",
            secure=https,
        )
        return response

    @router.post("/logout")
    def logout(request: Request) -> Response:
        account = access.sessions.account(request.cookies.get(COOKIE))
        if account is not None:
            access.sessions.end(account)
        response = RedirectResponse("/login", 303)
        response.delete_cookie(COOKIE)
        return response

    return router
