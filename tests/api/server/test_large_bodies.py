"""Large bodies, on real connections."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send

from api.http.middleware import DrainRequest
from api.server.protocol import BoundedProtocol
from tests.support.waiting import eventually

LARGE = os.urandom(5 * 1024 * 1024 + 77)
HUGE = 64 * 1024 * 1024
STEP = 1024 * 1024
REFUSED = "/refused"


class Digester:
    """Answers with the digest of what came, or, at `/refused`, without reading to the end."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.headers: list[tuple[bytes, bytes]] = []
        """As they are once the body has come."""
        self.left = asyncio.Event()
        self.reads = asyncio.Event()
        self.reads.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.reads.wait()
        digest, more = hashlib.sha256(), True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left.set()
                return
            body, more = message["body"], message["more_body"]
            self.heard.append(body)
            digest.update(body)
            if scope["path"] == REFUSED:
                break
        self.headers = list(scope["headers"])
        answer = digest.hexdigest().encode()
        headers = [(b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


@asynccontextmanager
async def serving(app: Digester) -> AsyncIterator[int]:
    config = uvicorn.Config(
        DrainRequest(app), port=0, http=BoundedProtocol, lifespan="off", log_config=None
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    await eventually(lambda: server.started)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await task


class Caller:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, body: bytes, *, head: str = "", path: str = "/") -> None:
        head = head or f"Content-Length: {len(body)}\r\n"
        self.writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode() + body)

    async def pour(self, count: int, *, patience_s: float) -> int:
        """Sends zeros until that many are gone, or nobody takes them. Returns how many are."""
        for sent in range(0, count, STEP):
            self.writer.write(bytes(STEP))
            try:
                await asyncio.wait_for(self.writer.drain(), patience_s)
            except TimeoutError:
                return sent + STEP
        return count

    async def answer(self) -> bytes:
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 20)
        assert head.startswith(b"HTTP/1.1 200 "), head
        return await self.reader.readexactly(64)


@asynccontextmanager
async def calling(port: int) -> AsyncIterator[Caller]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    yield Caller(reader, writer)
    writer.close()


def digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


async def several_on_one_connection() -> None:
    async with serving(Digester()) as port, calling(port) as caller:
        for body in (LARGE, b"small", LARGE[:262_144], b"", LARGE):
            await caller.send(body)
            assert await caller.answer() == digest(body)


def test_bodies_of_every_size_follow_each_other_on_one_connection() -> None:
    asyncio.run(several_on_one_connection())


def test_they_do_on_uvloop() -> None:
    uvloop.run(several_on_one_connection())


async def test_a_request_sent_behind_a_large_body_is_answered_too() -> None:
    async with serving(Digester()) as port, calling(port) as caller:
        await caller.send(LARGE)
        await caller.send(b"next")
        assert await caller.answer() == digest(LARGE)
        assert await caller.answer() == digest(b"next")


async def test_a_body_may_come_in_chunks() -> None:
    async with serving(Digester()) as port, calling(port) as caller:
        chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(LARGE), LARGE)
        await caller.send(chunked, head="Transfer-Encoding: chunked\r\n")
        assert await caller.answer() == digest(LARGE)


async def test_a_sender_who_asks_first_is_told_to_go_on() -> None:
    async with serving(Digester()) as port, calling(port) as caller:
        asking = f"Content-Length: {len(LARGE)}\r\nExpect: 100-continue\r\n"
        await caller.send(b"", head=asking)
        told = await asyncio.wait_for(caller.reader.readuntil(b"\r\n\r\n"), 20)
        assert told.startswith(b"HTTP/1.1 100 ")
        caller.writer.write(LARGE)
        assert await caller.answer() == digest(LARGE)


@pytest.mark.parametrize("sent", [100, 262_144, 3_000_000])
async def test_what_came_before_a_cut_is_handed_on_before_the_cut_is(sent: int) -> None:
    app = Digester()
    async with serving(app) as port, calling(port) as caller:
        await caller.send(LARGE[:sent], head=f"Content-Length: {len(LARGE)}\r\n")
        await caller.writer.drain()
        caller.writer.close()
        await asyncio.wait_for(app.left.wait(), 20)
    assert b"".join(app.heard) == LARGE[:sent]


async def test_a_sender_is_held_back_while_nobody_reads() -> None:
    app = Digester()
    app.reads.clear()
    async with serving(app) as port, calling(port) as caller:
        await caller.send(b"", head=f"Content-Length: {HUGE}\r\n")
        sent = await caller.pour(HUGE, patience_s=1)
        assert sent < HUGE
        app.reads.set()
        assert await caller.pour(HUGE - sent, patience_s=20) == HUGE - sent
        assert await caller.answer() == digest(bytes(HUGE))


async def test_an_answer_before_the_end_of_the_body_arrives() -> None:
    async with serving(Digester()) as port, calling(port) as caller:
        await caller.send(LARGE, path=REFUSED)
        assert len(await caller.answer()) == 64
        assert await caller.reader.read() == b""
