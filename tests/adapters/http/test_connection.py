"""One connection: what is written to it, and what is made of the answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from pipeline.adapters.http.connection import BUFFER_BYTES, HEAD_MAX_BYTES
from pipeline.adapters.http.pool import PinnedTransport
from tests.support.http.raw_server import OK, Talk, ask, saying, serving


@pytest.fixture
async def transport() -> AsyncIterator[PinnedTransport]:
    transport = PinnedTransport()
    yield transport
    await transport.aclose()


# --- framing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (OK, b"ok"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
            b"ok",
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b'HTTP/1.1 304 Not Modified\r\nEtag: "x"\r\n\r\n', b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
    ],
)
async def test_answers_are_read_and_the_connection_is_kept(
    transport: PinnedTransport, answer: bytes, body: bytes
) -> None:
    async with serving(saying(answer)) as server:
        for _ in range(3):
            assert (await ask(transport, server))[1] == body
        assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    ],
)
async def test_answers_that_end_the_connection(transport: PinnedTransport, answer: bytes) -> None:
    async with serving(saying(answer, then_close=True)) as server:
        for _ in range(2):
            assert await ask(transport, server) == (200, b"ok")
        assert server.connections == 2


async def test_the_length_of_a_head_answer_is_not_waited_for(transport: PinnedTransport) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"
    async with serving(saying(head)) as server:
        assert await ask(transport, server, "HEAD") == (200, b"")
        assert await ask(transport, server, "HEAD") == (200, b"")
        assert server.connections == 1


async def test_what_follows_an_answer_unasked_is_not_taken_for_the_next_one(
    transport: PinnedTransport,
) -> None:
    forged = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
    async with serving(saying(OK + forged)) as server:
        for _ in range(3):
            assert await ask(transport, server) == (200, b"ok")
        assert server.connections == 3


async def test_a_body_after_a_head_answer_is_not_taken_for_the_next_one(
    transport: PinnedTransport,
) -> None:
    async with serving(saying(OK)) as server:
        assert await ask(transport, server, "HEAD") == (200, b"")
        assert await ask(transport, server) == (200, b"ok")


async def test_an_answer_that_comes_late_for_nobody_closes_the_connection(
    transport: PinnedTransport,
) -> None:
    go, closed = asyncio.Event(), asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await go.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
        try:
            await reader.read()
        finally:
            closed.set()

    async with serving(talk) as server:
        assert await ask(transport, server) == (200, b"ok")
        go.set()
        await asyncio.wait_for(closed.wait(), 30)
        go.clear()
        assert await ask(transport, server) == (200, b"ok")
        assert server.connections == 2
        go.set()


@pytest.mark.parametrize(
    "answer",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * HEAD_MAX_BYTES,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 4000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        b"HTTP/1.1 200",
    ],
)
async def test_what_is_not_http_is_refused(transport: PinnedTransport, answer: bytes) -> None:
    async with serving(saying(answer, then_close=True)) as server:
        with pytest.raises(httpx.RemoteProtocolError):
            await ask(transport, server)


async def test_a_connection_that_breaks_is_said_so(transport: PinnedTransport) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK[:-1])
        await writer.drain()
        writer.transport.abort()

    async with serving(talk) as server:
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            await ask(transport, server)


async def test_a_big_body_waits_for_its_reader(transport: PinnedTransport) -> None:
    piece = b"x" * 65536
    sent = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(piece) * 1000))
        for _ in range(1000):
            writer.write(piece)
            await writer.drain()
            sent += len(piece)

    async with serving(talk) as server:
        request = httpx.Request(
            "GET", f"http://h:{server.port}/", extensions={"pinned": ("127.0.0.1",)}
        )
        response = await transport.handle_async_request(request)
        received = 0
        async for got in response.aiter_raw():
            received += len(got)
            # What is neither here nor with the server lies in the buffers of the two sockets.
            assert len(got) <= BUFFER_BYTES + 256 * 1024
        await response.aclose()
        assert received == sent == len(piece) * 1000


async def test_a_body_that_nobody_reads_is_held_back(transport: PinnedTransport) -> None:
    sent, stuck = 0, asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            try:
                await asyncio.wait_for(writer.drain(), 0.2)
            except TimeoutError:
                stuck.set()
                return
            sent += 65536

    async with serving(talk) as server:
        request = httpx.Request(
            "GET", f"http://h:{server.port}/", extensions={"pinned": ("127.0.0.1",)}
        )
        response = await transport.handle_async_request(request)
        await asyncio.wait_for(stuck.wait(), 10)
        await response.aclose()
        assert sent < 32 * 1024 * 1024


# --- sending ----------------------------------------------------------------------------------


def echoing() -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if b"chunked" in head.lower():
                rest = await reader.readuntil(b"0\r\n\r\n")
            else:
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r")[0])
                rest = await reader.readexactly(length)
            body = head + rest
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()

    return talk


async def test_a_request_as_it_is_written(transport: PinnedTransport) -> None:
    async with serving(echoing()) as server:
        _, said = await ask(transport, server, "POST", content=b"hello")
    lines = said.split(b"\r\n")
    assert lines[0] == b"POST /path?q=1 HTTP/1.1"
    assert b"Host: server.example:%d" % server.port in lines
    assert said.endswith(b"\r\n\r\nhello")


async def test_a_streamed_body_is_chunked(transport: PinnedTransport) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"one", b"", b"three"):
            yield piece

    async with serving(echoing()) as server:
        _, said = await ask(transport, server, "PUT", content=pieces())
    assert said.endswith(b"\r\n\r\n3\r\none\r\n5\r\nthree\r\n0\r\n\r\n")


async def test_a_refusal_in_mid_upload_is_an_answer(transport: PinnedTransport) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        await asyncio.Event().wait()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    async with serving(talk) as server:
        status, _ = await asyncio.wait_for(ask(transport, server, "PUT", content=endless()), 10)
        assert status == 413


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {"X": "a\nHost: evil"}),
        ("GET", {"X": "a\r\n\r\nGET /"}),
        ("GET", {"X": "a\0"}),
        ("GET", {"X\r\nY": "a"}),
        ("GET / HTTP/1.1\r\nX:", {}),
        ("", {}),
    ],
)
async def test_nothing_can_be_smuggled_into_a_head(
    transport: PinnedTransport, method: str, headers: dict[str, str]
) -> None:
    async with serving(saying(OK)) as server:
        request = httpx.Request(
            method,
            f"http://h:{server.port}/",
            headers=headers,
            extensions={"pinned": ("127.0.0.1",)},
        )
        with pytest.raises(httpx.LocalProtocolError):
            await transport.handle_async_request(request)
        assert server.connections == 0
