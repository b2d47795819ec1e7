"""A client of Server-Sent Events that takes frames apart strictly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.support.http.frames import Seen, events, parse

DEADLINE_S = 10


class Stream:
    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.retry_ms: int | None = None
        self._chunks = response.aiter_text()
        self._text = ""

    async def frame(self) -> Seen:
        """The next frame, comments and frames without data included."""
        async with asyncio.timeout(DEADLINE_S):
            while "\n\n" not in self._text:
                self._text += await anext(self._chunks)
        block, _, self._text = self._text.partition("\n\n")
        for line in block.split("\n"):
            if line.startswith("retry: "):
                self.retry_ms = int(line.removeprefix("retry: "))
        return parse(block + "\n\n")[0]

    async def events(self, count: int) -> list[Seen]:
        """The next events; whatever else comes between is passed over."""
        found: list[Seen] = []
        while len(found) < count:
            found += events([await self.frame()])
        return found

    async def end(self) -> None:
        """The stream ends here."""
        async with asyncio.timeout(DEADLINE_S):
            assert [chunk async for chunk in self._chunks] == []


@asynccontextmanager
async def stream(http: httpx.AsyncClient, path: str, **options: Any) -> AsyncIterator[Stream]:
    async with http.stream("GET", path, timeout=httpx.Timeout(10, read=60), **options) as response:
        assert response.status_code == 200, await response.aread()
        yield Stream(response)
