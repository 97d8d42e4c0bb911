"""The web application: our login, API and assets around a mounted Gradio page. The rules are `annotate.queue`'s."""

import hashlib
import html
import socket
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Form, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.middleware.cors import CORSMiddleware
from starlette.staticfiles import StaticFiles

from annotate.page import PATH, mount_page
from annotate.people import Brake, Sessions, check_password, has_accounts, local_annotator
from annotate.queue import Answer, Card, Choice, Nothing, Queue, Refused, Submission
from annotate.render import as_markdown, as_source
from annotate.security import LOCAL_HOSTS, Gate
from annotate.statements import Annotator
from annotate.store import Store
from annotate.submission import Flag
from workbench.run.errors import WorkbenchError

_ASSETS = Path(__file__).with_name("assets")
_COOKIE = "annotate_session"


Text = Annotated[str, Field(max_length=50_000)]


class SubmissionBody(BaseModel):
    """An answer to a card; see `annotate.submission.Submission`."""

    model_config = ConfigDict(extra="forbid")

    item: int
    choice: Choice
    client_key: Annotated[str, Field(min_length=8, max_length=64)]
    strength: Annotated[int, Field(ge=-3, le=3)] | None = None
    ranking: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(max_length=100)] | None = None
    rubric: dict[str, Annotated[int, Field(ge=-3, le=3)]] | None = None
    flag: Flag | None = None
    comment: Text | None = None
    reason: Text | None = None
    edited_text: Text | None = None
    edited_response: Annotated[int, Field(ge=0)] | None = None
    guidelines_version: Annotated[str, Field(max_length=64)] | None = None
    seconds: Annotated[float, Field(ge=0, le=86400)] | None = None


class Withdrawal(BaseModel):
    """Takes back the last answer."""

    model_config = ConfigDict(extra="forbid")

    client_key: Annotated[str, Field(min_length=8, max_length=64)]


class Access:
    """Who sends a request: by cookie, or the one person on this machine."""

    def __init__(self, store: Store, *, login: bool, days: int) -> None:
        self.sessions = Sessions(store, days=days)
        self.local = None if login else local_annotator(store)

    def account(self, request: Request) -> Annotator | None:
        """The account, or None."""
        return self.local or self.sessions.account(request.cookies.get(_COOKIE))

    def name(self, request: Request) -> str | None:
        """The account's name, or None."""
        account = self.account(request)
        return account.name if account else None

    def required(self, request: Request) -> Annotator:
        """The account; without one the request ends here."""
        account = self.account(request)
        if account is None:
            raise HTTPException(401, "log in first")
        return account


def create_app(
    store: Store,
    queue: Queue,
    *,
    title: str,
    login: bool,
    https: bool = False,
    session_days: int = 14,
    host: str = "127.0.0.1",
    port: int = 7860,
) -> FastAPI:
    """The application around one store. Without `login` it serves one person on this machine."""
    access = Access(store, login=login, days=session_days)
    app = FastAPI(title=title, docs_url=None, redoc_url=None, openapi_url="/api/v1/openapi.json")
    app.include_router(_api(queue, access))
    app.include_router(_login(store, access, title, https))
    app.mount("/assets", StaticFiles(directory=_ASSETS))
    mount_page(app, title=title, version=_version(), user=access.name, host=host, port=port)
    # Gradio leaves cross-origin replies to an application that sets its own policy: ours names no other origin.
    app.add_middleware(CORSMiddleware, allow_origins=[])
    app.add_middleware(Gate, page=PATH, user=access.name, hosts=None if login else LOCAL_HOSTS)
    return app


def _version() -> str:
    content = b"".join(path.read_bytes() for path in sorted(_ASSETS.iterdir()))
    return hashlib.sha256(content).hexdigest()[:12]


def _api(queue: Queue, access: Access) -> APIRouter:
    router = APIRouter(prefix="/api/v1", tags=["label"])
    Who = Annotated[Annotator, Depends(access.required)]

    def reply(who: Annotator, card: Card | Nothing, **more: Any) -> dict[str, Any]:
        progress = queue.progress(who)
        return {
            "card": _shown(card) if isinstance(card, Card) else None,
            "nothing": card.reason if isinstance(card, Nothing) else None,
            "progress": {"mine": progress.mine, "open_for_me": progress.open_for_me},
            **more,
        }

    @router.post("/me")
    def me(who: Who) -> dict[str, Any]:
        """Who you are."""
        return {"name": who.name, "role": who.role, "login": access.local is None}

    @router.post("/next")
    def next_card(who: Who) -> dict[str, Any]:
        """The pair to judge now: the one you have open, or a new one. Renews your lease."""
        return reply(who, queue.next(who))

    @router.post("/submit")
    def submit(body: SubmissionBody, who: Who) -> dict[str, Any]:
        """Store an answer and get the next pair. The same `client_key` again stores nothing more."""
        try:
            saved = queue.submit(who, Submission(**body.model_dump()))
        except Refused as refusal:
            raise HTTPException(409, str(refusal)) from None
        return reply(who, queue.next(who), revision=saved.revision, repeated=saved.repeated)

    @router.post("/undo")
    def undo(withdrawal: Withdrawal, who: Who) -> dict[str, Any]:
        """Withdraw your last answer and get its pair back."""
        try:
            card = queue.undo(who, client_key=withdrawal.client_key)
        except Refused as refusal:
            raise HTTPException(409, str(refusal)) from None
        return reply(who, card or queue.next(who), undone=card is not None)

    return router


def _shown(card: Card) -> dict[str, Any]:
    """What the page is told of a card: texts, and nothing of where they come from."""

    def text(content: str) -> dict[str, str]:
        return {"html": as_markdown(content), "source": as_source(content)}

    def answer(side: Answer) -> dict[str, str]:
        return text(side.text)

    return {
        "item": card.item,
        "prompt": [{"role": turn["role"], **text(turn["content"])} for turn in card.prompt],
        "answers": [answer(side) for side in card.answers],
        "left": answer(card.left),
        "right": answer(card.right),
        "previous": card.previous,
    }


def _login(store: Store, access: Access, title: str, https: bool) -> APIRouter:
    router = APIRouter(include_in_schema=False)
    brake = Brake(failures=5, seconds=60)

    @router.get("/")
    def root() -> Response:
        return RedirectResponse(PATH + "/", 303)

    @router.get("/manifest.json")
    def manifest() -> dict[str, Any]:
        icon = {"src": "/assets/icon.svg", "sizes": "any", "type": "image/svg+xml"}
        return {"name": title, "short_name": title, "start_url": "/", "icons": [icon]}

    @router.get("/favicon.ico")
    def icon() -> Response:
        return RedirectResponse("/assets/icon.svg")

    @router.get("/login")
    def form(request: Request) -> Response:
        if access.account(request) is not None:
            return RedirectResponse(PATH + "/", 303)
        return _form(title)

    @router.post("/login")
    def login(request: Request, name: Annotated[str, Form()], password: Annotated[str, Form()]) -> Response:
        keys = (f"name {name[:64]}", f"from {request.client.host if request.client else ''}")
        wait = brake.wait(*keys)
        if wait > 0:
            return _form(title, f"Too many attempts. Try again in {wait:.0f} seconds.", 429)
        account = check_password(store, name, password)
        if account is None:
            brake.failed(*keys)
            return _form(title, "Name or password is wrong.", 403)
        response = RedirectResponse(PATH + "/", 303)
        response.set_cookie(
            _COOKIE,
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
        response.delete_cookie(_COOKIE)
        return response

    return router


def _form(title: str, problem: str = "", status: int = 200) -> Response:
    wrong = f'<p class="wrong" role="alert">{html.escape(problem)}</p>' if problem else ""
    return HTMLResponse(
        f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Log in · {html.escape(title)}</title><link rel="icon" href="/assets/icon.svg">
<link rel="stylesheet" href="/assets/page.css?v={_version()}"></head>
<body><script>document.body.classList.toggle("dark", (localStorage.getItem("annotate.theme") ||
(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "")) === "dark")</script>
<main id="login"><form method="post" action="/login"><h1>{html.escape(title)}</h1>{wrong}
<label>Name<input name="name" autocomplete="username" required autofocus maxlength="64"></label>
<label>Password<input name="password" type="password" autocomplete="current-password" required maxlength="1000"></label>
<button>Log in</button></form></main></body></html>""",
        status,
        headers={"Cache-Control": "no-store"},
    )


def login_needed(store: Store, *, host: str, require_login: bool) -> bool:
    """Whether people must log in.

    Raises:
        WorkbenchError: they must, and nobody can.
    """
    accounts = has_accounts(store)
    local = host in LOCAL_HOSTS
    if not accounts and (require_login or not local):
        reason = "server.require_login is true" if local else f"server.host={host} is open to other machines"
        raise WorkbenchError(
            "server",
            f"{reason}, and the label store {store.place} has no account",
            expected="accounts, or server.host=127.0.0.1 (one person, no login)",
            remedy="python -m annotate users CONFIG.yaml add NAME --role admin",
        )
    return accounts


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on the address.

    Raises:
        WorkbenchError: it cannot, because the port is in use or the address is not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio sends small replies at once (TCP_NODELAY) only on sockets that name it.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise WorkbenchError(
            f"server.port={port}",
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            expected="an address of this machine and a port that no program uses",
            remedy=f"stop the other program, or give another port: server.port={port + 1}",
        ) from None
    return listener


def run(app: FastAPI, listener: socket.socket) -> None:
    """Serve until interrupted."""
    config = uvicorn.Config(app, log_level="warning", server_header=False, timeout_graceful_shutdown=2)
    uvicorn.Server(config).run(sockets=[listener])
