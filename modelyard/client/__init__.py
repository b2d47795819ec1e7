"""A typed client of `/yard/v1`: `Client` waits for its answers, `AsyncClient` is awaited.

Every operation of the server's OpenAPI document is a method of the same name. What is sent and
answered are plain dictionaries, whose types are in `modelyard.client.types`.
"""

from __future__ import annotations

import os
from typing import Any

import httpx

from modelyard.client.async_operations import AsyncOperations
from modelyard.client.calls import CALLED, Call, Event
from modelyard.client.errors import (
    Conflict,
    ConnectionFailed,
    Denied,
    Invalid,
    ModelyardError,
    NotFound,
    Refused,
    UnexpectedAnswer,
)
from modelyard.client.operations import Operations

__all__ = [
    "AsyncClient",
    "Call",
    "Client",
    "Conflict",
    "ConnectionFailed",
    "Denied",
    "Event",
    "Invalid",
    "ModelyardError",
    "NotFound",
    "Refused",
    "UnexpectedAnswer",
]

LOCAL = "http://127.0.0.1:8000"


class Client(Operations):
    """Calls the server at `url` as whoever holds `token`, a JWT or an API key.

    Both come from `MODELYARD_URL` and `MODELYARD_TOKEN` unless they are given; `options` are those
    of `httpx.Client`. Raises `ModelyardError`: `Refused` for what the server says no to.
    """

    def __init__(self, url: str | None = None, token: str | None = None, **options: Any) -> None:
        super().__init__(httpx.Client(**_options(url, token) | options))


class AsyncClient(AsyncOperations):
    """`Client`, for programs of asyncio."""

    def __init__(self, url: str | None = None, token: str | None = None, **options: Any) -> None:
        super().__init__(httpx.AsyncClient(**_options(url, token) | options))


def _options(url: str | None, token: str | None) -> dict[str, Any]:
    if token is None:
        token = os.environ.get("MODELYARD_TOKEN", "")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    base = url or os.environ.get("MODELYARD_URL") or LOCAL
    return {"base_url": base, "headers": headers, "timeout": CALLED}
