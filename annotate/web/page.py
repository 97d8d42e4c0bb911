"""The page in which people label: one Gradio card, whose HTML is made here and whose behaviour is `assets/main.js`.

The card talks to `annotate.web.api` with requests of its own: a click is answered in a few milliseconds, and an answer
that could not be sent waits in the browser. Gradio events, which lose both, are not used.
"""

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Gradio reads these when it is imported.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr
from fastapi import FastAPI, Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from annotate.web.contents import PageContents
from annotate.web.texts import Texts

PATH = "/label"
"""Where the page is mounted."""

_TEMPLATES = Path(__file__).with_name("templates")
_STYLES = ("page", "text", "answer", "dialogs")
_ACTIONS = [("bad", "both_bad"), ("skip", "skip"), ("flag", "flag"), ("comment", "comment"), ("undo", "undo")]


def mount_page(
    app: FastAPI, contents: PageContents, *, assets: str, user: Callable[[Request], str | None], host: str, port: int
) -> None:
    """Mount the page into the application that owns login and API.

    Args:
        assets: address of the folder of scripts and styles; changes when one of them changes, so that browsers fetch
            them again.
        user: name of whom a request belongs to, or None.
    """

    async def mount() -> None:
        gr.mount_gradio_app(
            app,
            build_page(contents),
            path=PATH,
            server_name=host,
            server_port=port,
            auth_dependency=user,
            footer_links=[],
            run_history=False,
            show_error=False,
            ssr_mode=False,
            mcp_server=False,
            enable_monitoring=False,
            max_file_size=1,
            theme=_theme(),
            head=_head(assets),
        )

    # Without a running event loop Gradio makes some of its own and never closes them.
    asyncio.run(mount())


def build_page(contents: PageContents) -> gr.Blocks:
    """The Gradio page: one HTML component with the empty card."""
    with gr.Blocks(title=contents.title, analytics_enabled=False, fill_width=True) as page:
        gr.HTML(
            card_html(contents),
            elem_id="card",
            container=False,
            padding=False,
            apply_default_css=False,
            js_on_load=None,
        )
    # Without events nothing is ever queued, and the loops of Gradio's queue would wake a thousand times a second.
    page._queue.start = lambda: None
    return page


def _theme() -> Any:
    sans = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"]
    mono = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]
    return gr.themes.Base(font=sans, font_mono=mono)


def _head(assets: str) -> str:
    styles = "".join(f'<link rel="stylesheet" href="{assets}/{name}.css">' for name in _STYLES)
    return (
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" type="image/svg+xml" href="{assets}/icon.svg">'
        f'{styles}<script type="module" src="{assets}/main.js"></script>'
    )


def card_html(contents: PageContents) -> str:
    """The card without a pair; the scripts fill it."""
    page = contents.section
    settings = {
        "rubric": page.rubric,
        "rubric_optional": page.rubric_optional,
        "must_see": page.must_see,
        "edit": page.edit,
        "ahead": page.ahead,
        "ask": page.ask_before_saving,
        "language": page.language,
        "guidelines": contents.guidelines_version,
    }
    return _template(
        "card.html",
        contents,
        settings=json.dumps(settings, ensure_ascii=False),
        guidelines=contents.guidelines is not None,
        version=contents.guidelines_version or "",
        actions=[*_ACTIONS[:4], *([("edit", "edit")] if page.edit else []), *_ACTIONS[4:]],
    )


def login_html(
    contents: PageContents, assets: str, problem: str | None = None, *, link: bool = False, **values: object
) -> str:
    """The login form; `problem` names a text that says why it is shown again.

    With `link` it asks for the token of the link that `serve` printed, instead of name and password.
    """
    text = Texts(contents.section.language)(problem, **values) if problem else ""
    return _template("login.html", contents, assets=assets, problem=text, link=link)


def _template(name: str, contents: PageContents, **values: object) -> str:
    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined)
    return environment.get_template(name).render(t=Texts(contents.section.language), title=contents.title, **values)
