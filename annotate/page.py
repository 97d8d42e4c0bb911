"""The page in which people label: one Gradio card, whose HTML is made here and whose behaviour is `assets/card.js`.

The card talks to the API of `annotate.app` with requests of its own: a click is answered in a few milliseconds, and an
answer that could not be sent waits in the browser. Gradio events, which lose both, are not used.
"""

import asyncio
import html
import os
from collections.abc import Callable
from typing import Any

# Gradio reads these when it is imported.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr
from fastapi import FastAPI, Request

PATH = "/label"
"""Where the page is mounted."""

SCALE = (
    (-3, "1", "much better", "A is much better"),
    (-2, "2", "better", "A is better"),
    (-1, "3", "slightly better", "A is slightly better"),
    (0, "4", "about equal", "Both are about equally good"),
    (1, "5", "slightly better", "B is slightly better"),
    (2, "6", "better", "B is better"),
    (3, "7", "much better", "B is much better"),
)
"""Strength as shown (negative: left), key, short label, full label."""

_KEYS = (
    ("1 2 3", "A is much better, better, slightly better"),
    ("4 or T", "about equal"),
    ("5 6 7", "B is slightly better, better, much better"),
    ("X", "both are bad"),
    ("S", "skip this pair"),
    ("U", "undo: take back your last answer"),
    ("R", "show the exact characters, or formatted text"),
    ("D", "dark or light"),
    ("?", "this help"),
)


def mount_page(
    app: FastAPI, *, title: str, version: str, user: Callable[[Request], str | None], host: str, port: int
) -> None:
    """Mount the page into the application that owns login and API.

    Args:
        version: changes when an asset changes, so that browsers fetch it again.
        user: name of whom a request belongs to, or None.
    """

    async def mount() -> None:
        gr.mount_gradio_app(
            app,
            build_page(title),
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
            head=_head(version),
        )

    # Without a running event loop Gradio makes some of its own and never closes them.
    asyncio.run(mount())


def build_page(title: str) -> gr.Blocks:
    """The Gradio page: one HTML component with the empty card."""
    with gr.Blocks(title=title, analytics_enabled=False, fill_width=True) as page:
        gr.HTML(
            card_html(title),
            elem_id="card",
            container=False,
            padding=False,
            apply_default_css=False,
            js_on_load=None,
        )
    return page


def _theme() -> Any:
    sans = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"]
    mono = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]
    return gr.themes.Base(font=sans, font_mono=mono)


def _head(version: str) -> str:
    return (
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" type="image/svg+xml" href="/assets/icon.svg?v={version}">'
        f'<link rel="stylesheet" href="/assets/page.css?v={version}">'
        f'<script src="/assets/card.js?v={version}" defer></script>'
    )


def card_html(title: str) -> str:
    """The card without contents; `card.js` fills it."""
    return f"""
<div id="annotate" aria-busy="true">
  <header class="bar">
    <h1>{html.escape(title)}</h1>
    <p class="count" id="count"></p>
    <nav aria-label="View">
      {_tool("raw", "Exact text", "Show the exact characters (R)", pressed=True)}
      {_tool("theme", "Dark", "Dark or light (D)", pressed=True)}
      {_tool("help-open", "Keys", "Keyboard help (?)")}
      <span id="who" hidden></span>
      <form id="leave" method="post" action="/logout" hidden><button class="tool">Log out</button></form>
    </nav>
    <div class="meter" id="meter" role="progressbar" aria-label="Your progress" aria-valuemin="0"
      aria-valuemax="100"><i></i></div>
  </header>
  <p id="notice" role="alert" hidden></p>
  <div id="pair" hidden>
    <section class="prompt" id="prompt" tabindex="-1" aria-label="Prompt"></section>
    <div class="answers">
      {_answer("left", "A")}
      {_answer("right", "B")}
    </div>
  </div>
  <div id="nothing" hidden>
    <h2>Nothing left for you</h2>
    <p id="reason"></p>
    <button class="action" id="again">Look again</button>
    <button class="action" data-do="undo">Undo my last answer</button>
  </div>
  <footer class="choices" id="choices" hidden>
    <div class="scale" role="group" aria-label="Which answer is better?">
      <span class="end a" aria-hidden="true">A is</span>
      <span class="end tie" aria-hidden="true">equal</span>
      <span class="end b" aria-hidden="true">B is</span>
      {"".join(_grade(*grade) for grade in SCALE)}
    </div>
    <div class="actions">
      {_action("both_bad", "Both bad", "X")}
      {_action("skipped", "Skip", "S")}
      {_action("undo", "Undo", "U")}
      <p id="saved" role="status" aria-live="polite"></p>
    </div>
  </footer>
  <dialog id="help" aria-labelledby="help-title">
    <h2 id="help-title">Keys</h2>
    <dl>{"".join(f"<dt>{_keys(keys)}</dt><dd>{meaning}</dd>" for keys, meaning in _KEYS)}</dl>
    <label><input type="checkbox" id="keys-on" checked> Single keys answer</label>
    <form method="dialog"><button class="action">Close</button></form>
  </dialog>
</div>"""


def _keys(keys: str) -> str:
    return " ".join(key if key == "or" else f"<kbd>{key}</kbd>" for key in keys.split())


def _tool(name: str, label: str, title: str, *, pressed: bool = False) -> str:
    state = ' aria-pressed="false"' if pressed else ""
    return f'<button class="tool" type="button" id="{name}" title="{title}"{state}>{label}</button>'


def _answer(side: str, letter: str) -> str:
    return (
        f'<section class="answer {side}" aria-labelledby="{side}-name">'
        f'<h2 id="{side}-name"><b>{letter}</b><span>Answer {letter}</span></h2>'
        f'<div class="text" id="{side}"></div></section>'
    )


def _grade(strength: int, key: str, short: str, full: str) -> str:
    side = "a" if strength < 0 else "b" if strength > 0 else "tie"
    return (
        f'<button type="button" class="grade {side} s{abs(strength)}" data-strength="{strength}" '
        f'aria-label="{full}" aria-keyshortcuts="{key}" title="{full} ({key})">'
        f"<span>{short}</span><kbd>{key}</kbd></button>"
    )


def _action(name: str, label: str, key: str) -> str:
    return (
        f'<button type="button" class="action" data-do="{name}" aria-keyshortcuts="{key}">'
        f"{label} <kbd>{key}</kbd></button>"
    )
