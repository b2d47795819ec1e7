"""A connection that speaks another protocol from a request on (RFC 9110, 7.8).

The server knows none: it hands what comes to the application, and on what the application sends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

SWITCHED: Final = 101


class TunnelAnswer:
    """What the application calls to answer a request that asks for another protocol.

    With 101 a tunnel begins (`open`); the connection ends with the answer. Any other answer is one
    of HTTP, after which the caller may ask for something else.
    """

    def __init__(self, cycle: RequestResponseCycle, open: Callable[[], None]) -> None:
        self._cycle = cycle
        self._send = cycle.send
        self._open = open
        self._is_open = False

    async def __call__(self, message: Any) -> None:
        cycle = self._cycle
        if message["type"] == "http.response.start" and message["status"] == SWITCHED:
            self._is_open = True
            # Otherwise uvicorn says that it closes, and decides for chunks.
            cycle.keep_alive, cycle.chunked_encoding = True, False
            await self._send(message)
            cycle.keep_alive = False
            self._open()
            return
        if self._is_open:
            cycle.expected_content_length = len(message.get("body", b""))
        await self._send(message)
