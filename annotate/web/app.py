"""The web application: login, API and assets around a mounted Gradio page. The rules are `annotate.queue.rules`'s."""

import functools
import hashlib
import socket
from collections.abc import Sequence
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.middleware.cors import CORSMiddleware
from starlette.staticfiles import StaticFiles

from annotate.config import ExportSection
from annotate.people.access import Access
from annotate.people.accounts import has_accounts
from annotate.queue.rules import Queue
from annotate.store.database import Store
from annotate.web.api import api_routes
from annotate.web.connections import MOST_CONNECTIONS, Protocol
from annotate.web.contents import PageContents
from annotate.web.downloads import export_routes
from annotate.web.lead import lead_routes
from annotate.web.lead_pages import LeadPages
from annotate.web.login import Entrance, login_routes
from annotate.web.manage import manage_routes
from annotate.web.page import PATH, mount_page
from annotate.web.page_routes import page_routes
from annotate.web.people_pages import people_routes
from annotate.web.reward_files import RewardFiles
from annotate.web.security import LOCAL_HOSTS, Gate
from annotate.web.texts import ASSETS, Texts
from workbench.run.errors import WorkbenchError


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
    app.include_router(api_routes(queue, access, Texts(contents.language)))
    app.include_router(manage_routes(store, access, queue.section))
    app.include_router(export_routes(store, access, export or ExportSection()))
    app.include_router(page_routes(contents, access))
    pages = LeadPages(store, access, contents, export or ExportSection(), reward or RewardFiles())
    app.include_router(lead_routes(pages))
    app.include_router(people_routes(pages))
    app.mount(_assets(), StaticFiles(directory=ASSETS))
    app.mount("/assets", StaticFiles(directory=ASSETS))
    mount_page(app, contents, assets=_assets(), user=access.name, host=host, port=port)
    # Gradio leaves cross-origin replies to an application that sets its own policy: ours names no other origin.
    app.add_middleware(CORSMiddleware, allow_origins=[])
    app.add_middleware(Gate, page=PATH, user=access.name, hosts=None if login else LOCAL_HOSTS, https=https)
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
    """What to say at the start of a server that other machines reach without HTTPS; None where nothing is to say."""
    if host in LOCAL_HOSTS or https:
        return None
    return (
        f"server.host={host} is open to other machines, and server.https is false: without a proxy that speaks HTTPS, "
        "passwords and answers can be read on the way (docs/annotate-store.md, People)"
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
