"""`python -m annotate serve`: from the configuration to the running page."""

import secrets
import sys
from pathlib import Path

from fastapi import FastAPI

from annotate.config import AnnotateConfig
from annotate.intake.load import open_with_items
from annotate.queue.rules import Queue
from annotate.store.database import Store
from annotate.web.app import create_app, login_needed, warning
from annotate.web.contents import PageContents, read_contents, remember_contents
from annotate.web.reward_files import RewardFiles
from workbench.serve.http import listen, run


def serve(config: AnnotateConfig) -> None:
    """Serve the page until interrupted.

    Raises:
        WorkbenchError: the page's files are bad, there is nothing to label, or the address cannot be used.
    """
    server = config.server
    contents = read_contents(server.title, config.page)
    store = open_with_items(config)
    login = login_needed(store, host=server.host, require_login=server.require_login)
    _warn(config, login)
    listener = listen(server.host, server.port)
    key = None if login else secrets.token_urlsafe(24)
    remember_contents(store, contents)
    app = application(config, store, contents, login=login, key=key)
    shown = f"[{server.host}]" if ":" in server.host else server.host
    link = f"/?token={key}" if key else ""
    print(f"http://{shown}:{server.port}{link}  (Ctrl-C stops it; every label is saved)", flush=True)
    run(app, listener, proxies=server.proxies)
    store.close()


def application(
    config: AnnotateConfig, store: Store, contents: PageContents, *, login: bool, key: str | None = None
) -> FastAPI:
    """The application that a configuration describes; `login`, `key`: see `create_app`."""
    server = config.server
    return create_app(
        store,
        Queue(store, config.queue),
        contents,
        login=login,
        https=server.https,
        embed_in=server.embed_in,
        key=key,
        session_days=server.session_days,
        host=server.host,
        port=server.port,
        export=config.export,
        blind_review=config.lead.blind_review,
        reward=RewardFiles(*(Path(name) if name else None for name in (config.lead.curve, config.lead.relabel))),
    )


def _warn(config: AnnotateConfig, login: bool) -> None:
    """Say what the person who starts the server may have overlooked."""
    open_to_others = warning(host=config.server.host, https=config.server.https)
    if open_to_others is not None:
        print(f"warning: {open_to_others}", file=sys.stderr)
    queue = config.queue
    if not login and queue.overlap > 1 and queue.overlap_share > 0:
        print(
            f"one person labels here (no accounts), but {queue.overlap_share:.0%} of the pairs need {queue.overlap} "
            "people: set queue.overlap=1 before the pairs are loaded, and one is enough"
        )
