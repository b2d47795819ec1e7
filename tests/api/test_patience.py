"""Callers who begin and do not go on, over a real HTTP server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from fastapi import FastAPI

from pipeline.settings import Settings
from schemas.states import ImageStatus
from tests.support import records as made
from tests.support.http.front import Front
from tests.support.http.serving import serving

SILENCE_S = 0.3
DEADLINE_S = 10
WHO = "Host: x\r\nAuthorization: Bearer admin\r\n"
JSON = WHO + "Content-Type: application/json\r\nContent-Length: 40\r\n\r\n{"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Awaitable[Streams]]


@pytest.fixture
def settings() -> Settings:
    return Settings(api_port=0, request_silence_s=SILENCE_S, wait_max_s=60)


@pytest.fixture
async def connect(
    app: FastAPI, fake: Front, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Connect]:
    monkeypatch.setattr("api.http.middleware.LINGER_S", 0.05)
    async with AsyncExitStack() as stack:
        _, url = await stack.enter_async_context(serving(app, fake.settings))
        host, port = url.removeprefix("http://").split(":")

        async def connected() -> Streams:
            reader, writer = await asyncio.open_connection(host, int(port))
            stack.callback(writer.close)
            return reader, writer

        yield connected


async def heard(streams: Streams, *sent: str) -> bytes:
    """All that comes until the server closes the connection."""
    reader, writer = streams
    for piece in sent:
        writer.write(piece.encode())
    return await asyncio.wait_for(reader.read(), DEADLINE_S)


async def test_a_connection_that_says_nothing_is_closed(connect: Connect) -> None:
    assert await heard(await connect()) == b""


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        ("GET /yard/v1/images HTTP/1.1\r\nHost: x\r\nAccept", b"application/problem+json"),
        ("GET /api/models HTTP/1.1\r\nHost: x\r\n", b"application/json"),
        ("POST /yard/v1/images HTTP/1.1\r\n" + JSON, b"application/problem+json"),
        ("POST /yard/v1/login HTTP/1.1\r\n" + JSON, b"application/problem+json"),
        ("POST /api/models HTTP/1.1\r\n" + JSON, b"application/json"),
    ],
)
async def test_a_request_that_does_not_go_on_is_answered_408(
    connect: Connect, sent: str, kind: bytes
) -> None:
    head, _, body = (await heard(await connect(), sent)).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 408 Request Timeout"
    assert b"content-type: " + kind in lines
    assert b"connection: close" in [line.lower() for line in lines]
    assert json.loads(body)["code"] == "request_timeout"


async def test_a_head_that_comes_by_drops_is_not_waited_for(connect: Connect) -> None:
    reader, writer = await connect()
    writer.write(b"GET /healthz HTTP/1.1\r\n")
    answer = asyncio.create_task(reader.read())
    async with asyncio.timeout(DEADLINE_S):
        while not answer.done():
            writer.write(b"a: b\r\n")
            await asyncio.wait({answer}, timeout=SILENCE_S / 10)
    assert (await answer).startswith(b"HTTP/1.1 408 ")


async def test_a_connection_is_kept_between_requests_and_then_watched_again(
    connect: Connect,
) -> None:
    reader, writer = await connect()
    for _ in range(2):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 2 * SILENCE_S)
    assert (await heard((reader, writer), "GET /hea")).startswith(b"HTTP/1.1 408 ")


async def test_those_who_wait_for_us_are_left_alone(connect: Connect, fake: Front) -> None:
    events = await connect()
    events[1].write(f"GET /yard/v1/events HTTP/1.1\r\n{WHO}\r\n".encode())
    await events[0].readuntil(b"retry")
    waiting = await connect()
    body = b'{"reference": "r.test/m:1"}'
    length = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    waiting[1].write(f"POST /yard/v1/images?wait=60 HTTP/1.1\r\n{WHO}{length}".encode() + body)
    await asyncio.wait_for(fake.images.added.wait(), DEADLINE_S)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(waiting[0].read(1), 3 * SILENCE_S)
    [uuid] = fake.images.kept
    fake.images.move(uuid, status=ImageStatus.READY)
    assert (await waiting[0].readline()).startswith(b"HTTP/1.1 201 ")
    await events[0].readuntil(b'"kind":"ready"')


async def test_http_1_0_is_answered_without_chunks(connect: Connect, fake: Front) -> None:
    fake.containers.add(made.container())
    [uuid] = fake.containers.kept
    answer = await heard(
        await connect(), f"GET /yard/v1/containers/{uuid}/logs HTTP/1.0\r\n{WHO}\r\n"
    )
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert body == b""


@pytest.mark.parametrize("path", ["/healthz", "/yard/v1/events"])
async def test_an_answer_to_http_1_0_ends_with_the_connection(
    connect: Connect, app: FastAPI, path: str
) -> None:
    reader, writer = await connect()
    writer.write(f"GET {path} HTTP/1.0\r\n{WHO}\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    first = await reader.readline()
    assert first.startswith((b"{", b"retry: "))


@pytest.mark.parametrize("hosts", ["", "Host: a\r\nHost: b\r\n"])
async def test_http_1_1_names_its_host_once(connect: Connect, hosts: str) -> None:
    answer = await heard(await connect(), f"GET /healthz HTTP/1.1\r\n{hosts}\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"names its Host" in answer
