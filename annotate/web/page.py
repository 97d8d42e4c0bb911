"""The page of `serve`: the card alone in a Gradio page, mounted into the application that owns login and API."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from fastapi import FastAPI, Request

from annotate.web.card import PreferenceCard, template
from annotate.web.components import gr, without_applications
from annotate.web.contents import PageContents
from annotate.web.embed import Desk
from annotate.web.texts import ASSETS, Texts

PATH = "/label"
"""Where the page is mounted."""

_STYLES = ("frame", "page", "text", "answer", "dialogs")


def mount_page(app: FastAPI, desk: Desk, *, user: Callable[[Request], str | None], host: str, port: int) -> None:
    """Mount the page of a card; `user`: see `mount`."""
    mount(app, partial(build_page, desk), PATH, user=user, host=host, port=port, head=_head(str(desk.assets)))


def mount(
    app: FastAPI,
    build: Callable[[], gr.Blocks],
    path: str,
    *,
    user: Callable[[Request], str | None],
    host: str,
    port: int,
    head: str,
    max_file_size: int = 1,
) -> None:
    """Mount a Gradio page without queued events.

    Args:
        build: makes the page.
        user: name of whom a request belongs to; None: they get nothing.
        head: HTML for the head of the page.
        max_file_size: bytes of a file that somebody sends.
    """

    async def within_a_loop() -> None:
        with without_applications():
            blocks = build()
        # Without queued events, the loops of Gradio's queue would only wake a thousand times a second.
        blocks._queue.start = lambda: None  # type: ignore[method-assign]
        gr.mount_gradio_app(
            app,
            blocks,
            path=path,
            root_path=path,  # otherwise the addresses of files in replies to unqueued events lack it
            server_name=host,
            server_port=port,
            auth_dependency=user,
            footer_links=[],
            run_history=False,
            show_error=False,
            ssr_mode=False,
            mcp_server=False,
            enable_monitoring=False,
            max_file_size=max_file_size,
            theme=_theme(),
            head=head,
        )

    # Without a running event loop Gradio makes some of its own and never closes them.
    asyncio.run(within_a_loop())


def build_page(desk: Desk) -> gr.Blocks:
    """The Gradio page: the card."""
    with gr.Blocks(title=desk.contents.title, analytics_enabled=False, fill_width=True) as page:
        PreferenceCard(desk, elem_id="card")
    return page


def _theme() -> Any:
    sans = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"]
    mono = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]
    return gr.themes.Base(font=sans, font_mono=mono)


def _head(assets: str) -> str:
    """Styles and scripts, so that the browser has them before Gradio asks for them."""
    styles = "".join(f'<link rel="stylesheet" href="{assets}/{name}.css">' for name in _STYLES)
    scripts = sorted(path.name for path in ASSETS.glob("*.js"))
    return (
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" type="image/svg+xml" href="{assets}/icon.svg">'
        + styles
        + "".join(f'<link rel="modulepreload" href="{assets}/{name}">' for name in scripts)
    )


def login_html(
    contents: PageContents, assets: str, problem: str | None = None, *, link: bool = False, **values: object
) -> str:
    """The login form; `problem` names a text that says why it is shown again.

    With `link` it asks for the token of the link that `serve` printed, instead of name and password.
    """
    text = Texts(contents.section.language)(problem, **values) if problem else ""
    return template("login.html", contents, assets=assets, problem=text, link=link)
