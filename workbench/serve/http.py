"""An HTTP server for an application: a listening socket, deadlines, a limit of connections."""

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from workbench.run.errors import WorkbenchError

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
"""Addresses that only this machine can reach."""
HEADER_SECONDS = 20.0
"""From the start of a connection, or the end of the previous reply, to the last byte of a request's headers."""
MOST_CONNECTIONS = 1000
"""Open at one time; above it the reply is 503. A browser holds up to six for an open page."""


def listen(host: str, port: int, *, option: str = "server.port=") -> socket.socket:
    """A socket that listens on the address; `option` is how the user sets the port.

    Raises:
        WorkbenchError: it cannot, because the port is in use or no port, or the address is not ours.
    """
    if not 0 <= port <= 65535:
        raise WorkbenchError(f"{option}{port}", "is not a port", expected="0 to 65535; 0 is any free one")
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
            f"{option}{port}",
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            expected="an address of this machine and a port that no program uses",
            remedy=f"stop the other program, or give another port: {option}{port + 1}",
        ) from None
    return listener


class Protocol(H11Protocol):
    """HTTP/1.1 with a deadline for headers: uvicorn by itself waits for them without a limit."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the deadline for the first request."""
        super().connection_made(transport)
        self._expect_headers()

    def on_response_complete(self) -> None:
        """Start the deadline for the next request."""
        super().on_response_complete()
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the deadline."""
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def _expect_headers(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(HEADER_SECONDS, self._hang_up_if_waiting)

    def _hang_up_if_waiting(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


def run(app: Any, listener: socket.socket, *, proxies: Sequence[str] = LOCAL_HOSTS, drain_seconds: int = 2) -> None:
    """Serve until interrupted; arguments: see `make_server`."""
    make_server(app, proxies=proxies, drain_seconds=drain_seconds).run(sockets=[listener])


def make_server(app: Any, *, proxies: Sequence[str] = LOCAL_HOSTS, drain_seconds: int = 2) -> uvicorn.Server:
    """A server that is not running yet.

    Args:
        proxies: addresses whose X-Forwarded-For and X-Forwarded-Proto are believed.
        drain_seconds: how long replies may go on after the interruption.
    """
    config = uvicorn.Config(
        app,
        http=Protocol,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=drain_seconds,
        limit_concurrency=MOST_CONNECTIONS,
        forwarded_allow_ips=list(proxies),
    )
    return uvicorn.Server(config)
