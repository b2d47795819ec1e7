"""A server in this process that answers the command line as a test wants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx

Reply = Callable[[httpx.Request], httpx.Response]


class Yard(httpx.BaseTransport):
    """Answers by method and raw path, and remembers what it was asked."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply] = {}
        self.otherwise: Reply = lambda _: httpx.Response(204)
        self.asked: list[str] = []
        self.requests: list[httpx.Request] = []
        self.bodies: list[bytes] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        asked = f"{request.method} {request.url.raw_path.decode().removeprefix('/yard/v1')}"
        self.asked.append(asked)
        self.requests.append(request)
        self.bodies.append(request.read())
        found = self.replies.get(asked.partition("?")[0])
        return (found or self.otherwise)(request)

    def says(self, asked: str, value: Any, status: int = 200) -> None:
        self.replies[asked] = lambda _: httpx.Response(status, json=value)

    def sends(self, asked: str, body: bytes, media_type: str, status: int = 200) -> None:
        headers = {"content-type": media_type}
        self.replies[asked] = lambda _: httpx.Response(status, headers=headers, content=body)
