"""Answers to HTTP/1.0, which knows no chunks: they end where the connection does."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class Unframed:
    """What the application calls to answer a request of HTTP/1.0 (RFC 9112, 6.1)."""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._send = cycle.send
        self._is_unframed = False

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            names = {name.lower() for name, _ in message.get("headers", [])}
            self._is_unframed = b"content-length" not in names
            if self._is_unframed:
                # Otherwise uvicorn decides for chunks.
                self._cycle.chunked_encoding = False
        elif self._is_unframed:
            self._cycle.expected_content_length = len(message.get("body", b""))
        await self._send(message)
