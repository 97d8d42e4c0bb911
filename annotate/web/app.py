"""The web application: login, API and assets around a mounted Gradio page."""

import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from starlette.staticfiles import StaticFiles

from annotate.config import ExportSection
from annotate.people.access import Access
from annotate.people.accounts import has_accounts
from annotate.queue.rules import Queue
from annotate.store.database import Store
from annotate.web.api import Labelling, api_routes
from annotate.web.contents import PageContents
from annotate.web.downloads import export_routes
from annotate.web.embed import Desk
from annotate.web.lead import lead_routes
from annotate.web.lead_pages import LeadPages
from annotate.web.login import Entrance, login_routes
from annotate.web.manage import manage_routes
from annotate.web.page import PATH, mount_page
from annotate.web.people_pages import people_routes
from annotate.web.review import review_routes
from annotate.web.reward_files import RewardFiles
from annotate.web.security import GradioPage, protect
from annotate.web.tables import gradio_page_of_leads, mount_tables
from annotate.web.texts import ASSETS
from workbench.run.errors import WorkbenchError
from workbench.serve.http import LOCAL_HOSTS


def create_app(
    store: Store,
    queue: Queue,
    contents: PageContents,
    *,
    login: bool,
    https: bool = False,
    embed_in: Sequence[str] = (),
    session_days: int = 14,
    host: str = "127.0.0.1",
    port: int = 7860,
    export: ExportSection | None = None,
    reward: RewardFiles | None = None,
    blind_review: bool = True,
    key: str | None = None,
) -> FastAPI:
    """The application around one store. Without `login` it serves one person on this machine, who has the `key`."""
    access, assets = Access(store, login=login, days=session_days, key=key, port=port), asset_address(ASSETS)
    app = FastAPI(title=contents.title, docs_url=None, redoc_url=None, openapi_url="/api/v1/openapi.json")
    explain_refusals(app)
    app.include_router(icon_routes(contents.title))
    entrance = Entrance(access, contents, page=PATH + "/", assets=assets, https=https)
    app.include_router(login_routes(store, entrance))
    labelling = Labelling(queue, contents)
    app.include_router(api_routes(labelling, access))
    app.include_router(manage_routes(store, access, queue.section))
    app.include_router(export_routes(store, access, export or ExportSection()))
    pages = LeadPages(
        store,
        access,
        contents,
        export=export or ExportSection(),
        reward=reward or RewardFiles(),
        blind=blind_review,
        assets=assets,
    )
    app.include_router(lead_routes(pages))
    app.include_router(review_routes(pages))
    app.include_router(people_routes(pages))
    app.mount(assets, StaticFiles(directory=ASSETS))
    app.mount("/assets", StaticFiles(directory=ASSETS))
    desk = Desk(store, contents, labelling, access.required, pages=True, login=login, assets=assets)
    mount_page(app, desk, user=access.name, host=host, port=port)
    tables = gradio_page_of_leads(access)
    mount_tables(app, pages, queue.section, tables, host=host, port=port)
    card = GradioPage(PATH, access.closed_to("annotator"))
    protect(app, [card, tables], login=login, https=https, embed_in=embed_in, in_frames=[PATH, "/login"])
    return app


@functools.cache
def asset_address(*folders: Path) -> str:
    """The folder of assets as browsers see it: a new address for each version, also for what scripts import."""
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return f"/assets/{hashlib.sha256(b''.join(path.read_bytes() for path in files)).hexdigest()[:12]}"


def explain_refusals(app: FastAPI) -> None:
    """Answer what a request may not say with 422 and the reason, which does not repeat what was sent."""
    app.add_exception_handler(WorkbenchError, lambda _, error: _refusal(str(error)))
    app.add_exception_handler(RequestValidationError, _malformed)


def _malformed(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _refusal([{"loc": problem["loc"], "msg": problem["msg"]} for problem in error.errors()])


def _refusal(detail: object) -> Response:
    # Escaped, as half of a surrogate pair, such as in a key, is not UTF-8.
    return Response(json.dumps({"detail": detail}), 422, media_type="application/json")


def icon_routes(title: str) -> APIRouter:
    """What browsers fetch to show or install a page: its manifest and its icon."""
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
    """A warning for a server that other machines can reach without HTTPS; None if there is nothing to warn about."""
    if host in LOCAL_HOSTS or https:
        return None
    return (
        f"server.host={host} is open to other machines, and server.https is false: without a proxy that speaks HTTPS, "
        "passwords and answers can be read in transit (docs/annotate-store.md, People)"
    )
