"""A card in a notebook or in somebody's application: the store behind it, and whose answers it takes."""

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio.from_thread
from fastapi import HTTPException, Request

from annotate.config import PageSection, QueueSection
from annotate.intake.load import load_file
from annotate.people.accounts import has_accounts, local_annotator, visitor
from annotate.queue.rules import Queue
from annotate.store.database import Store
from annotate.store.statements import Annotator
from annotate.web.api import Labelling
from annotate.web.contents import PageContents, read_contents, remember_contents
from annotate.web.security import from_another_site
from workbench.run.errors import WorkbenchError
from workbench.serve.http import LOCAL_HOSTS

Name = str | Callable[[Request], str | None] | None
_NOT_HERE = (
    "this card belongs to the person at the computer that runs it: open it at http://localhost, or name its annotator "
    "(PreferenceCard(..., annotator=...)), or let people log in (launch(auth=...))"
)


@dataclass(frozen=True)
class Desk:
    """What a card works on."""

    store: Store
    contents: PageContents
    labelling: Labelling
    who: Callable[[Request], Annotator]
    """The annotator who sends a request; if nobody may, an HTTPException with status 401 or 403."""
    pages: bool = False
    """Whether the pages of `serve` are around the card: /login, /logout, /lead."""
    login: bool = False
    """Whether people log in with accounts of the store."""
    assets: str | None = None
    """Address of the folder of scripts and styles. None: Gradio serves them."""

    @property
    def store_id(self) -> str:
        """Names the store to browsers, which keep drafts and unsent answers for it."""
        with self.store.read() as transaction:
            key = transaction.setting("cookie_key")
        return hashlib.sha256(f"store {key}".encode()).hexdigest()[:12]


def open_desk(
    url: str | Path,
    *,
    items: str | Path | None = None,
    annotator: Name = None,
    title: str = "Which answer is better?",
    page: PageSection | None = None,
    queue: QueueSection | None = None,
) -> Desk:
    """Open a label store for a card.

    Args:
        url: a file (SQLite) or a database URL.
        items: a file of items to load first, in any form that `python -m annotate load` reads.
        annotator: whose answers the card takes: a name, for everybody who sees it; or a function that returns the
            name of whoever sends a request (None: nobody). By default the name with which they logged in to Gradio;
            without such a login the one person at this computer.

    Raises:
        WorkbenchError: the store or a file is bad, there is nothing to label, or people must be told apart.
    """
    contents, section = read_contents(title, page or PageSection()), queue or QueueSection()
    store = Store.open(url, say=print)
    try:
        if items is not None:
            print(f"{store.place}: {load_file(store, items, section)}")
        _check_items(store)
        who = Visitors(store, annotator)
        remember_contents(store, contents)
    except WorkbenchError:
        store.close()
        raise
    return Desk(store, contents, Labelling(Queue(store, section), contents), who)


def _check_items(store: Store) -> None:
    with store.read() as transaction:
        if transaction.totals(simulated=False)[0] == 0:
            raise WorkbenchError(
                store.place,
                "there are no pairs to label yet",
                expected="items loaded from a file",
                remedy='PreferenceCard(..., items="pairs.jsonl"), or python -m annotate load CONFIG.yaml FILE',
            )


class Visitors:
    """Who sends a request that an application of others serves. That application's word is taken for it."""

    def __init__(self, store: Store, annotator: Name) -> None:
        """Raises: WorkbenchError: nobody is named although the store has accounts, or the name is not allowed."""
        self._store, self._annotator = store, annotator
        self._has_accounts = has_accounts(store)
        if isinstance(annotator, str):
            visitor(store, annotator)

    def __call__(self, request: Request) -> Annotator:
        """The annotator; otherwise an HTTPException."""
        if from_another_site(request.headers):
            raise HTTPException(403, "requests from another site are not accepted")
        if isinstance(self._annotator, str):
            name: str | None = self._annotator
        elif self._annotator is not None:
            name = self._annotator(request)
        elif _has_login(request.app):
            name = _logged_in(request)
        else:
            return self._local(request)
        if name is None:
            raise HTTPException(401, "log in first")
        try:
            account = visitor(self._store, name)
        except WorkbenchError as error:
            raise HTTPException(403, str(error)) from None
        if account.removed:
            raise HTTPException(403, f"the account {account.name!r} has been removed")
        return account

    def _local(self, request: Request) -> Annotator:
        if self._has_accounts:
            raise HTTPException(
                403, "this label store has accounts: name the annotator (PreferenceCard(..., annotator=...))"
            )
        forwarded = any(name in request.headers for name in ("forwarded", "x-forwarded-for", "x-forwarded-host"))
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname
        if forwarded or host not in LOCAL_HOSTS or request.client is None or request.client.host not in LOCAL_HOSTS:
            raise HTTPException(403, _NOT_HERE)
        return local_annotator(self._store)


def _has_login(app: Any) -> bool:
    return getattr(app, "auth", None) is not None or getattr(app, "auth_dependency", None) is not None


def _logged_in(request: Request) -> str | None:
    """The name with which somebody logged in to Gradio (`auth`, or `auth_dependency`), as Gradio finds it."""
    app = request.app
    if app.auth_dependency is not None:
        name = app.auth_dependency(request)
        return anyio.from_thread.run(_awaited, name) if inspect.isawaitable(name) else name
    cookies = request.cookies
    token = cookies.get(f"access-token-{app.cookie_id}") or cookies.get(f"access-token-unsecure-{app.cookie_id}")
    name = app.tokens.get(token)
    return None if name is None else str(name)


async def _awaited(name: Any) -> Any:
    return await name
