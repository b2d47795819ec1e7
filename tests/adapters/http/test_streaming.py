"""Calls whose bodies flow, against servers on loopback that say what a test likes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from pipeline.adapters.http.resolving import Rules
from pipeline.adapters.http.streaming import StreamingHttp
from pipeline.errors import AddressRefused, Unreachable
from tests.support.http.raw_server import OK, Talk, saying, serving

MIB = 1024 * 1024


@pytest.fixture
async def calls() -> AsyncIterator[StreamingHttp]:
    async with StreamingHttp.open(Rules(allow_local=True)) as opened:
        yield opened


async def pieces(*content: bytes) -> AsyncIterator[bytes]:
    for piece in content:
        yield piece


async def post(
    calls: StreamingHttp, talk: Talk, content: AsyncIterator[bytes], **headers: str
) -> tuple[int, bytes]:
    async with (
        serving(talk) as server,
        calls.post(
            f"http://127.0.0.1:{server.port}/run", headers=headers, content=content
        ) as called,
    ):
        return called.status, b"".join([piece async for piece in called.pieces])


async def head(reader: asyncio.StreamReader) -> str:
    return (await reader.readuntil(b"\r\n\r\n")).decode()


async def test_content_of_a_known_length_is_sent_as_it_is(calls: StreamingHttp) -> None:
    seen: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((await head(reader)).lower().encode())
        seen.append(await reader.readexactly(4))
        writer.write(OK)

    answered = await post(calls, talk, pieces(b"ab", b"cd"), **{"content-length": "4"})
    assert answered == (200, b"ok")
    assert seen[1] == b"abcd"
    assert seen[0].startswith(b"post /run http/1.1\r\n")
    assert b"transfer-encoding" not in seen[0]


async def test_content_of_an_unknown_length_is_sent_in_chunks(calls: StreamingHttp) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert "transfer-encoding: chunked" in (await head(reader)).lower()
        assert await reader.readuntil(b"0\r\n\r\n") == b"2\r\nab\r\n0\r\n\r\n"
        writer.write(OK)

    assert await post(calls, talk, pieces(b"ab", b"")) == (200, b"ok")


async def test_a_peer_may_answer_while_it_reads(calls: StreamingHttp) -> None:
    """Far more flows than anybody on the way holds."""
    size = 32 * MIB

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        left = size
        while left:
            piece = await reader.read(64 * 1024)
            writer.write(piece)
            await writer.drain()
            left -= len(piece)

    async def content() -> AsyncIterator[bytes]:
        for _ in range(size // MIB):
            yield bytes(MIB)

    status, echoed = await post(calls, talk, content(), **{"content-length": str(size)})
    assert (status, len(echoed)) == (200, size)


async def test_a_slow_peer_holds_back_what_is_sent(calls: StreamingHttp) -> None:
    sent, may_read = 0, asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        await may_read.wait()
        while not (await reader.read(MIB)).endswith(b"0\r\n\r\n"):
            continue
        writer.write(OK)

    async def content() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(64):
            sent += MIB
            yield bytes(MIB)

    async with serving(talk) as server:
        url = f"http://127.0.0.1:{server.port}/run"
        waiting = asyncio.create_task(read(calls, url, content()))
        seen = -1
        while seen != sent:
            seen = sent
            await asyncio.sleep(0.1)
        assert sent < 16 * MIB
        may_read.set()
        assert await waiting == (200, b"ok")
    assert sent == 64 * MIB


async def read(calls: StreamingHttp, url: str, content: AsyncIterator[bytes]) -> tuple[int, bytes]:
    async with calls.post(url, headers={}, content=content) as called:
        return called.status, b"".join([piece async for piece in called.pieces])


async def test_an_early_answer_ends_the_sending(calls: StreamingHttp) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(MIB)

    assert await post(calls, talk, endless()) == (413, b"no")


async def test_a_redirect_is_an_answer_like_any_other(calls: StreamingHttp) -> None:
    moved = b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\nContent-Length: 0\r\n\r\n"
    assert await post(calls, saying(moved), pieces(), **{"content-length": "0"}) == (302, b"")


BROKEN = [
    (b"", "protocol", True),
    (b"hello\r\n\r\n", "protocol", False),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", "protocol", False),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "protocol", False),
]


@pytest.mark.parametrize(("answer", "kind", "is_silent"), BROKEN)
async def test_a_peer_that_breaks_off_or_talks_nonsense_is_told(
    calls: StreamingHttp, answer: bytes, kind: str, is_silent: bool
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(answer)

    with pytest.raises(Unreachable) as caught:
        await post(calls, talk, pieces(), **{"content-length": "0"})
    assert caught.value.facts["kind"] == kind
    assert caught.value.facts.get("is_silent", False) is is_silent


async def test_nobody_there_is_told(calls: StreamingHttp) -> None:
    async with serving(saying(OK)) as server:
        port = server.port
    with pytest.raises(Unreachable) as caught:
        await read(calls, f"http://127.0.0.1:{port}/run", pieces())
    assert caught.value.facts["kind"] == "refused"


async def test_metadata_addresses_are_refused(calls: StreamingHttp) -> None:
    with pytest.raises(AddressRefused):
        await read(calls, "http://169.254.169.254/run", pieces())


@pytest.mark.parametrize("begins", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\no"])
async def test_a_sender_who_gives_up_ends_the_call(calls: StreamingHttp, begins: bytes) -> None:
    hung_up = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(begins)
        while await reader.read(1024):
            continue
        hung_up.set()

    async def content() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.sleep(0.05)
        raise KeyError("gone")

    async with serving(talk) as server:
        with pytest.raises(KeyError):
            await read(calls, f"http://127.0.0.1:{server.port}/run", content())
        await asyncio.wait_for(hung_up.wait(), 30)
