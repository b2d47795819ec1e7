"""A client of resumable uploads that does exactly what it is told."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx

UPLOADS = "/yard/v1/uploads"
TUS = {"Tus-Resumable": "1.0.0"}


def metadata(**pairs: str) -> str:
    return ",".join(
        f"{key} {base64.b64encode(text.encode()).decode()}" for key, text in pairs.items()
    )


def checksum(data: bytes, algorithm: str = "sha1") -> dict[str, str]:
    digest = hashlib.new(algorithm, data).digest()
    return {"Upload-Checksum": f"{algorithm} {base64.b64encode(digest).decode()}"}


class TusUpload:
    """One upload of `content`."""

    def __init__(self, http: httpx.AsyncClient, content: bytes) -> None:
        self.http = http
        self.content = content
        self.path = ""

    async def create(self, **pairs: str) -> httpx.Response:
        headers = TUS | {"Upload-Length": str(len(self.content))}
        if pairs:
            headers["Upload-Metadata"] = metadata(**pairs)
        answer = await self.http.post(UPLOADS, headers=headers)
        self.path = answer.headers.get("location", "")
        return answer

    async def patch(self, offset: int, data: bytes, **headers: str) -> httpx.Response:
        sent = TUS | {
            "Upload-Offset": str(offset),
            "Content-Type": "application/offset+octet-stream",
        }
        return await self.http.patch(self.path, content=data, headers=sent | headers)

    async def send(self, start: int, end: int | None = None) -> int:
        """The offset after bytes `start` to `end` of the content."""
        answer = await self.patch(start, self.content[start:end])
        assert answer.status_code == 204, answer.text
        return int(answer.headers["upload-offset"])

    async def offset(self) -> int:
        answer = await self.http.head(self.path, headers=TUS)
        assert answer.status_code == 200, answer.status_code
        return int(answer.headers["upload-offset"])

    async def view(self) -> dict[str, Any]:
        answer = await self.http.get(self.path)
        assert answer.status_code == 200, answer.text
        view: dict[str, Any] = answer.json()
        return view

    async def delete(self) -> httpx.Response:
        return await self.http.delete(self.path, headers=TUS)

    async def cut(self, start: int, sent: int, **headers: str) -> None:
        """Announces the rest from `start`, sends `sent` bytes of it and breaks the connection."""
        async with self.sending(start, sent, **headers):
            return

    @asynccontextmanager
    async def sending(
        self, start: int, sent: int, **headers: str
    ) -> AsyncIterator[asyncio.StreamReader]:
        """A request that is never finished: it breaks when the block ends."""
        address = urlsplit(str(self.http.base_url))
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        lines = {
            "Host": "yard",
            "Authorization": self.http.headers["authorization"],
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(len(self.content) - start),
            "Upload-Offset": str(start),
            **TUS,
            **headers,
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        try:
            writer.write(f"PATCH {self.path} HTTP/1.1\r\n{head}\r\n".encode())
            writer.write(self.content[start : start + sent])
            await writer.drain()
            yield reader
        finally:
            # What was sent arrives; what was announced never does.
            writer.close()
