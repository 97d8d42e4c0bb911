"""Login and logout: the form, the cookie, and a brake on guessing."""

import html
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from annotate.access import COOKIE, Access
from annotate.people import check_password
from annotate.sessions import Brake
from annotate.store import Store


def login_routes(store: Store, access: Access, *, title: str, page: str, version: str, https: bool) -> APIRouter:
    """The routes that let people in (to `page`) and out."""
    router = APIRouter(include_in_schema=False)
    # A name is locked early; an address late, because many people may share one.
    by_name, by_address = Brake(failures=5, seconds=60), Brake(failures=30, seconds=60)

    def form(problem: str = "", status: int = 200) -> Response:
        return HTMLResponse(_form(title, version, problem), status, headers={"Cache-Control": "no-store"})

    @router.get("/login")
    def show(request: Request) -> Response:
        return form() if access.account(request) is None else RedirectResponse(page, 303)

    @router.post("/login")
    def login(request: Request, name: Annotated[str, Form()], password: Annotated[str, Form()]) -> Response:
        who, address = name[:64], request.client.host if request.client else ""
        wait = max(by_name.wait(who), by_address.wait(address))
        if wait > 0:
            return form(f"Too many attempts. Try again in {wait:.0f} seconds.", 429)
        account = check_password(store, who, password)
        if account is None:
            by_name.failed(who)
            by_address.failed(address)
            return form("Name or password is wrong.", 403)
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
    def logout() -> Response:
        response = RedirectResponse("/login", 303)
        response.delete_cookie(COOKIE)
        return response

    return router


def _form(title: str, version: str, problem: str) -> str:
    wrong = f'<p class="wrong" role="alert">{html.escape(problem)}</p>' if problem else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Log in · {html.escape(title)}</title><link rel="icon" href="/assets/icon.svg">
<link rel="stylesheet" href="/assets/page.css?v={version}"></head>
<body><script>document.body.classList.toggle("dark", (localStorage.getItem("annotate.theme") ||
(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "")) === "dark")</script>
<main id="login"><form method="post" action="/login"><h1>{html.escape(title)}</h1>{wrong}
<label>Name<input name="name" autocomplete="username" required autofocus maxlength="64"></label>
<label>Password<input name="password" type="password" autocomplete="current-password" required maxlength="1000"></label>
<button>Log in</button></form></main></body></html>"""
