"""Checks every request before the application sees it (origin, size, Gradio's addresses) and adds security headers.

Plain ASGI middleware, outermost. A Gradio page has those of Gradio's addresses that it needs: for the card its own
files and the server functions. Upload, file, proxy, event and run-history addresses are closed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from workbench.serve.http import LOCAL_HOSTS

MOST_BODY_BYTES = 256 * 1024
MOST_ITEM_BYTES = 64 * 1024 * 1024
MOST_BODY_BYTES_OF = {"/api/v1/items": MOST_ITEM_BYTES, "/lead/tables/gradio_api/upload": MOST_ITEM_BYTES + 10_000}
"""Addresses with a higher limit; the sender's role is checked before the body is read."""

OF_A_PAGE = (
    "/config",
    "/theme.css",
    "/favicon.ico",
    "/assets/",
    "/static/",
    "/svelte/",
    "/gradio_api/theme.css",
    "/gradio_api/app_id",
    "/gradio_api/startup-events",
    "/gradio_api/heartbeat/",
)
"""What every Gradio page reads."""
_WITH_AN_ACCOUNT = ("/gradio_api/startup-events", "/gradio_api/heartbeat/")
"""Gradio gives these to anybody, and a heartbeat is a reply that never ends."""
_SERVER_FUNCTIONS = "/gradio_api/component_server/"

# Gradio's front end compiles its templates in the browser, hence unsafe-eval. Nothing is loaded from another origin.
_CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'self'",
        "object-src 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": f"{_CONTENT_SECURITY_POLICY}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not `no-referrer`: browsers would then send `Origin: null` with the login form.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True)
class GradioPage:
    """A mounted Gradio page, and who may use it."""

    path: str
    closed: Callable[[Request], int]
    """0 if the sender of a request may use the page; otherwise 401 (not logged in) or 403 (not their role)."""
    reads: tuple[str, ...] = OF_A_PAGE
    """Beginnings of the addresses that are open to GET, within the page's path."""
    posts: tuple[str, ...] = (_SERVER_FUNCTIONS,)
    """The same for POST."""


def protect(app: FastAPI, pages: Sequence[GradioPage], *, login: bool, **of_gate: Any) -> None:
    """Put the checks of requests around an application: its origin, its host, then `Gate` with `of_gate`."""
    # Gradio leaves cross-origin replies to an application that sets its own policy: ours names no other origin.
    app.add_middleware(CORSMiddleware, allow_origins=[])
    if not login:  # logins protect it otherwise
        hosts = [f"[{host}]" if ":" in host else host for host in LOCAL_HOSTS]
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
    app.add_middleware(Gate, pages=pages, **of_gate)


class Gate:
    """The outermost layer of the application."""

    def __init__(
        self,
        app: Any,
        *,
        pages: Sequence[GradioPage],
        https: bool = False,
        embed_in: Sequence[str] = (),
        in_frames: Sequence[str] = (),
    ) -> None:
        """Wrap an application.

        Args:
            https: the page is reached through HTTPS, whatever the proxy says.
            embed_in: origins whose pages may show this one in a frame.
            in_frames: the addresses that they may show, and all below them.
        """
        self._app, self._pages, self._https = app, pages, https
        self._in_frames = tuple(in_frames) if embed_in else ()
        self._framed = _framed(embed_in)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Refuse, redirect, or pass the request on; add the headers to the reply."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name in [name for name in headers if name.startswith("access-control-")]:
                    del headers[name]
                for name, value in (self._framed if self._may_be_framed(scope["path"]) else HEADERS).items():
                    headers[name] = value
                if self._scheme(scope) == "https":
                    headers["Strict-Transport-Security"] = "max-age=31536000"
            await send(message)

        answer = self._refusal(scope) or self._at_a_page(scope)
        await (answer or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Any) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        origin = headers.get("origin")
        if origin is not None and origin != f"{self._scheme(scope)}://{host}":
            if origin == f"https://{host}":
                return _refuse(
                    403,
                    "the page is reached by HTTPS and the server does not know it: set server.https=true, or let a "
                    "proxy named in server.proxies send X-Forwarded-Proto",
                )
            return _refuse(403, "requests from another site are not accepted")
        if scope["method"] in ("POST", "PUT", "PATCH", "DELETE"):
            if origin is None and headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
                return _refuse(403, "requests from another site are not accepted")
            length = headers.get("content-length", "0" if "transfer-encoding" not in headers else "")
            if not length.isdigit():
                return _refuse(411, "send the length of the body")
            most = MOST_BODY_BYTES_OF.get(scope["path"], MOST_BODY_BYTES)
            if int(length) > most:
                return _refuse(413, f"at most {most:,} bytes")
        return None

    def _scheme(self, scope: Any) -> str:
        return "https" if self._https else str(scope.get("scheme", "http"))

    def _may_be_framed(self, path: str) -> bool:
        return any(path == shown or path.startswith(f"{shown}/") for shown in self._in_frames)

    def _at_a_page(self, scope: Any) -> Response | None:
        path = scope["path"]
        for page in self._pages:
            if path == page.path or path.startswith(page.path + "/"):
                return _at(page, path.removeprefix(page.path), scope)
        return None


def _at(page: GradioPage, inner: str, scope: Any) -> Response | None:
    """Why a request gets nothing at a page, or None."""
    if inner in ("", "/"):
        status = page.closed(Request(scope))
        return RedirectResponse("/login", 303) if status == 401 else _closed(status)
    open_here = {"GET": page.reads, "HEAD": page.reads, "POST": page.posts}.get(scope["method"], ())
    if not inner.startswith(open_here):
        return _refuse(403, "not part of this page")
    if inner.startswith(_SERVER_FUNCTIONS) and not _is_json(scope):
        return _refuse(415, "send JSON")  # Gradio takes files too
    if inner.startswith((*_WITH_AN_ACCOUNT, *page.posts)):
        return _closed(page.closed(Request(scope)))
    return None


def _closed(status: int) -> Response | None:
    return _refuse(status, "log in first" if status == 401 else "this page is for another role") if status else None


def _is_json(scope: Any) -> bool:
    return Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower() == "application/json"


def _framed(origins: Sequence[str]) -> Mapping[str, str]:
    """The headers of what pages of these origins may show in a frame."""
    policy = f"{_CONTENT_SECURITY_POLICY}; frame-ancestors 'self' {' '.join(origins)}"
    headers = {**HEADERS, "Content-Security-Policy": policy}
    del headers["X-Frame-Options"]  # it knows no list of origins, and older browsers prefer it
    return headers


def from_another_site(headers: Headers) -> bool:
    """Whether a page of another site made a browser send this request. For hosts whose public address is unknown."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host")


def _refuse(status: int, why: str) -> Response:
    return JSONResponse({"detail": why}, status)
