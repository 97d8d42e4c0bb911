"""The web application: login, API and assets around a mounted Gradio page."""

import asyncio
import functools
import hashlib
import socket
from collections.abc import Sequence
from typing import Annotated, Any

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.staticfiles import StaticFiles
from uvicorn.protocols.http.h11_impl import H11Protocol

from annotate.config import ExportSection
from annotate.people.access import Access
from annotate.people.accounts import has_accounts
from annotate.queue.rules import Queue
from annotate.store.database import Store
from annotate.store.statements import Annotator
from annotate.web.api import api_routes
from annotate.web.contents import PageContents
from annotate.web.downloads import export_routes
from annotate.web.lead import lead_routes
from annotate.web.lead_pages import LeadPages
from annotate.web.login import Entrance, login_routes
from annotate.web.manage import manage_routes
from annotate.web.page import PATH, mount_page
from annotate.web.people_pages import people_routes
from annotate.web.render import as_markdown
from annotate.web.reward_files import RewardFiles
from annotate.web.security import LOCAL_HOSTS, Gate
from annotate.web.texts import ASSETS, Texts
from workbench.run.errors import WorkbenchError

HEADER_SECONDS = 20.0
"""From the start of a connection, or the end of the previous reply, to the last byte of a request's headers."""
MOST_CONNECTIONS = 1000
"""Open at one time; above it the reply is 503. A browser holds up to six for an open page."""


def create_app(
    store: Store,
    queue: Queue,
    contents: PageContents,
    *,
    login: bool,
    https: bool = False,
    session_days: int = 14,
    host: str = "127.0.0.1",
    port: int = 7860,
    export: ExportSection | None = None,
    reward: RewardFiles | None = None,
    key: str | None = None,
) -> FastAPI:
    """The application around one store. Without `login` it serves one person on this machine, who has the `key`."""
    access = Access(store, login=login, days=session_days, key=key, port=port)
    app = FastAPI(title=contents.title, docs_url=None, redoc_url=None, openapi_url="/api/v1/openapi.json")
    app.add_exception_handler(WorkbenchError, _explain)
    app.include_router(_entrance(contents.title))
    entrance = Entrance(access, contents, page=PATH + "/", assets=_assets(), https=https)
    app.include_router(login_routes(store, entrance))
    app.include_router(api_routes(queue, access, Texts(contents.section.language)))
    app.include_router(manage_routes(store, access, queue.section))
    app.include_router(export_routes(store, access, export or ExportSection()))
    app.include_router(_guidelines(contents, access))
    pages = LeadPages(store, access, contents, export or ExportSection(), reward or RewardFiles())
    app.include_router(lead_routes(pages))
    app.include_router(people_routes(pages))
    app.mount(_assets(), StaticFiles(directory=ASSETS))
    app.mount("/assets", StaticFiles(directory=ASSETS))
    mount_page(app, contents, assets=_assets(), user=access.name, host=host, port=port)
    # Gradio leaves cross-origin replies to an application that sets its own policy: ours names no other origin.
    app.add_middleware(CORSMiddleware, allow_origins=[])
    if not login:  # logins protect it otherwise
        hosts = [f"[{host}]" if ":" in host else host for host in LOCAL_HOSTS]
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
    app.add_middleware(Gate, page=PATH, user=access.name, https=https)
    return app


@functools.cache
def _assets() -> str:
    """The folder of assets as browsers see it: a new address for each version, also for what scripts import."""
    content = b"".join(path.read_bytes() for path in sorted(ASSETS.iterdir()))
    return f"/assets/{hashlib.sha256(content).hexdigest()[:12]}"


def _explain(_request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, 422)


def _entrance(title: str) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/manifest.json")
    def manifest() -> dict[str, Any]:
        icon = {"src": "/assets/icon.svg", "sizes": "any", "type": "image/svg+xml"}
        return {"name": title, "short_name": title, "start_url": "/", "icons": [icon]}

    @router.get("/favicon.ico")
    def icon() -> Response:
        return RedirectResponse("/assets/icon.svg")

    return router


def _guidelines(contents: PageContents, access: Access) -> APIRouter:
    router = APIRouter(include_in_schema=False)
    tree = as_markdown(contents.guidelines or "")

    @router.post("/page/guidelines")
    def guidelines(who: Annotated[Annotator, Depends(access.required)]) -> dict[str, Any]:
        return {"version": contents.guidelines_version, "text": tree}

    return router


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
            remedy="python -m annotate annotator CONFIG.yaml add NAME --role admin",
        )
    return accounts


def warning(*, host: str, https: bool) -> str | None:
    """A warning for a server that other machines can reach without HTTPS; None if there is nothing to warn about."""
    if host in LOCAL_HOSTS or https:
        return None
    return (
        f"server.host={host} is open to other machines, and server.https is false: without a proxy that speaks HTTPS, "
        "passwords and answers can be read in transit (docs/annotate-store.md, People)"
    )


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


class Protocol(H11Protocol):
    """HTTP/1.1 with a deadline for headers: uvicorn by itself waits for them without a limit."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the deadline for the first request."""
        super().connection_made(transport)
        self._expect_headers()

    def on_response_complete(self) -> None:
        """Start the deadline for the next request."""
        super().on_response_complete()
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the deadline."""
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def _expect_headers(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(HEADER_SECONDS, self._hang_up_if_waiting)

    def _hang_up_if_waiting(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


def run(app: FastAPI, listener: socket.socket, *, proxies: Sequence[str] = LOCAL_HOSTS) -> None:
    """Serve until interrupted; `proxies`: addresses whose X-Forwarded-For and X-Forwarded-Proto are believed."""
    config = uvicorn.Config(
        app,
        http=Protocol,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=2,
        limit_concurrency=MOST_CONNECTIONS,
        forwarded_allow_ips=list(proxies),
    )
    uvicorn.Server(config).run(sockets=[listener])
