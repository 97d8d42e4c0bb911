"""Checks every request before the application sees it (origin, size, Gradio's addresses) and adds security headers.

Plain ASGI middleware, outermost. Gradio's upload, file, proxy, event and run-history addresses are closed: the page has
no Gradio events and needs none of them.
"""

from collections.abc import Callable
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
"""Addresses that only this machine can reach."""

MOST_BODY_BYTES = 256 * 1024
MOST_BODY_BYTES_OF = {"/api/v1/items": 64 * 1024 * 1024}
"""Addresses with a higher limit; they check the sender's role before they read the body."""

_OPEN_TO_THE_PAGE = (
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
_WITH_AN_ACCOUNT = ("/gradio_api/startup-events", "/gradio_api/heartbeat/")
"""Gradio gives these to anybody, and a heartbeat is a reply that never ends."""

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
        "frame-ancestors 'none'",
        "base-uri 'self'",
        "object-src 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": _CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not `no-referrer`: browsers would then send `Origin: null` with the login form.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Gate:
    """The outermost layer of the application."""

    def __init__(
        self,
        app: Any,
        *,
        page: str,
        user: Callable[[Request], str | None],
        https: bool = False,
    ) -> None:
        """`https`: the page is reached through HTTPS, whatever the proxy says."""
        self._app, self._page, self._user, self._https = app, page, user, https

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
                for name, value in HEADERS.items():
                    headers[name] = value
                if self._scheme(scope) == "https":
                    headers["Strict-Transport-Security"] = "max-age=31536000"
            await send(message)

        answer = self._refusal(scope) or self._at_the_page(scope)
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

    def _at_the_page(self, scope: Any) -> Response | None:
        path = scope["path"]
        if path != self._page and not path.startswith(self._page + "/"):
            return None
        inner = path.removeprefix(self._page)
        if inner in ("", "/"):
            return RedirectResponse("/login", 303) if self._user(Request(scope)) is None else None
        if scope["method"] not in ("GET", "HEAD") or not inner.startswith(_OPEN_TO_THE_PAGE):
            return _refuse(403, "not part of this page")
        if inner.startswith(_WITH_AN_ACCOUNT) and self._user(Request(scope)) is None:
            return _refuse(401, "log in first")
        return None


def _refuse(status: int, why: str) -> Response:
    return JSONResponse({"detail": why}, status)
