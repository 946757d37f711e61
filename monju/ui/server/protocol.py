"""HTTP connections that send no whole request in time are closed; uvicorn waits for them without end.

Nor is uvicorn named to whoever asks.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

HEADERS_S = 10  # seconds for a request's line and headers


class Impatient(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's protocol with a deadline for headers."""

    def connection_made(self, transport: Any) -> None:
        """Begin to count; answers do not name the server."""
        headers = self.server_state.default_headers
        headers[:] = [header for header in headers if header[0] != b"server"]
        super().connection_made(transport)
        self._ended: Any = None  # the request that had been answered at the last look; none was there yet
        self._timer: asyncio.TimerHandle = self.loop.call_later(HEADERS_S, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """End to count."""
        self._timer.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        idle = self.cycle is None or self.cycle.response_complete
        if idle and self.cycle is self._ended:  # no request has come whole since the last look
            self.transport.close()
            return
        if idle:
            self._ended = self.cycle
        self._timer = self.loop.call_later(HEADERS_S, self._look)
