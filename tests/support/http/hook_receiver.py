"""The receiver of a webhook on loopback: keeps what it was told and answers as a test likes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.support.http.raw_server import serving

HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Told:
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


@dataclass
class Receiver:
    url: str = ""
    told: list[Told] = field(default_factory=list)
    status: int = 200
    more: str = ""
    """Further header lines of its answers."""
    refused: set[str] = field(default_factory=set)
    """Ids of records of which it takes nothing for now."""

    def of(self, id: str) -> list[str]:
        """Kinds of the events about a record, as they came."""
        return [each.event["type"] for each in self.told if each.event["data"]["id"] == id]

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(HEAD_END)).decode("latin-1").split("\r\n")
            pairs = (line.partition(":") for line in head[1:] if line)
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            told = Told(headers, await reader.readexactly(int(headers["content-length"])))
            self.told.append(told)
            status = 503 if told.event["data"]["id"] in self.refused else self.status
            writer.write(f"HTTP/1.1 {status} Said\r\n{self.more}Content-Length: 0\r\n\r\n".encode())
            await writer.drain()


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    async with serving(receiver.talk) as server:
        receiver.url = f"http://127.0.0.1:{server.port}/hook"
        yield receiver
