"""The application of the arena, or with one run of the chat: login, API, page, leaderboard."""

from collections.abc import Callable
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from annotate.arena.leaderboard import FEWEST_VOTES, leaderboard
from annotate.arena.page import ASSETS, PATH, build_page, render
from annotate.arena.routes import Arena, arena_routes
from annotate.config import ServerSection
from annotate.people.access import Access
from annotate.store.statements import Annotator
from annotate.web import texts as words
from annotate.web.app import asset_address, explain_refusals, icon_routes
from annotate.web.contents import PageContents
from annotate.web.login import Entrance, login_routes
from annotate.web.page import mount
from annotate.web.security import GradioPage, protect


def create_arena(arena: Arena, contents: PageContents, access: Access, server: ServerSection) -> FastAPI:
    """The application; with one run there are no votes and no leaderboard."""
    runs, texts = arena.battles.runs, arena.texts
    alone = len(runs) == 1
    app = FastAPI(title=contents.title, docs_url=None, redoc_url=None, openapi_url="/api/v1/openapi.json")
    explain_refusals(app)
    assets = asset_address(words.ASSETS, ASSETS)
    login = access.local is None
    entrance = Entrance(access, contents, page=PATH + "/", assets=assets, https=server.https)
    app.include_router(login_routes(arena.store, entrance))
    app.include_router(arena_routes(arena, access))
    app.include_router(icon_routes(contents.title))
    if not alone:
        app.include_router(_leaderboard_page(arena, access, contents.title))
    app.mount(f"{assets}/arena", StaticFiles(directory=ASSETS))
    app.mount(assets, StaticFiles(directory=words.ASSETS))
    app.mount("/assets", StaticFiles(directory=words.ASSETS))
    html = render("arena.html", t=texts, title=contents.title, run=runs[0] if alone else None, login=login)
    head = render("head.html", assets=assets)
    build = partial(build_page, html, contents.title)
    mount(app, build, PATH, user=access.name, host=server.host, port=server.port, head=head)
    protect(app, [GradioPage(PATH, access.closed_to("annotator"), posts=())], login=login, https=server.https)
    return app


def _leaderboard_page(arena: Arena, access: Access, title: str) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/leaderboard")
    def standings(who: Annotated[Annotator, Depends(_with_login(access))]) -> Response:
        board = leaderboard(arena.store, arena.battles.runs)
        page = render("leaderboard.html", t=arena.texts, title=title, board=board, fewest=FEWEST_VOTES)
        return HTMLResponse(page, headers={"Cache-Control": "no-store"})

    return router


def _with_login(access: Access) -> Callable[[Request], Annotator]:
    def account(request: Request) -> Annotator:
        found = access.account(request)
        if found is None:
            raise HTTPException(401, "log in first", headers={"Refresh": "0; url=/login"})
        return found

    return account
