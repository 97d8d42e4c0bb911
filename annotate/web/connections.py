"""How long and how many connections are held: uvicorn by itself waits for ever for the end of a request's headers."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 20.0
"""From the start of a connection, or the end of the reply before, to the last byte of a request's headers."""
MOST_CONNECTIONS = 1000
"""At one time; above it the reply is 503. A browser holds up to six for an open page."""


class Protocol(H11Protocol):
    """HTTP/1.1 with a deadline for headers."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Wait for the first request."""
        super().connection_made(transport)
        self._expect_headers()

    def on_response_complete(self) -> None:
        """Wait for the next one."""
        super().on_response_complete()
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
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
