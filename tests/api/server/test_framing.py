"""What is no body is bounded: judged by how much reaches the parser, not by the time it takes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

import pytest
from httpx import AsyncClient
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.server import framing
from api.server.protocol import PIECES_AT_ONCE, Server
from tests.api.server.test_large_bodies import Digester, calling, digest, serving
from tests.api.server.test_protocol import Running
from tests.api.server.test_protocol import running as running
from tests.support.waiting import eventually

STEP = 64 * 1024
FLOOD = 4 * 1024 * 1024
LINE = b"GET /healthz HTTP/1.1\r\n"
GET = LINE + b"Host: x\r\n"
POST = (
    b"POST /yard/v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
"""Answered with 422 once its body has come."""


@dataclass
class Fed:
    """What the parser was given."""

    size: int = 0
    pieces: int = 0


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> Fed:
    fed, feed = Fed(), HttpToolsProtocol.data_received

    def counted(self: Any, data: bytes) -> None:
        fed.size += len(data)
        fed.pieces += 1
        feed(self, data)

    monkeypatch.setattr(HttpToolsProtocol, "data_received", counted)
    return fed


@asynccontextmanager
async def connected(
    running: Running,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, port = running[1].removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()


async def refusal(reader: asyncio.StreamReader) -> tuple[int, str, str]:
    """Status, code and detail of the last answer on a connection."""
    head, _, body = (await asyncio.wait_for(reader.read(), 10)).partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    problem = json.loads(body)
    return int(head.split()[1]), problem["code"], problem["detail"]


def filled(start: bytes, filler: bytes, size: int) -> bytes:
    return (start + filler * (size // len(filler) + 1))[:size]


_HEAD, _TARGET, _LINES = framing.HEAD_BYTES, framing.TARGET_BYTES, framing.CHUNK_LINES_BYTES
TOO_MUCH = {
    "many fields": (GET + b"a: b\r\n" * (framing.FIELDS - 1), b"a: b\r\n\r\n", 431),
    "a field": (filled(GET + b"a: ", b"x", _HEAD), b"x", 431),
    "the name of a field": (filled(GET, b"x", _HEAD), b"x", 431),
    "some long fields": (filled(GET, b"a: " + b"x" * 1000 + b"\r\n", _HEAD), b"x", 431),
    "empty lines": (b"\r\n" * (_HEAD // 2), b"\r\n", 431),
    "a target": (filled(b"GET /", b"x", _TARGET + 4), b"x", 414),
    "a query": (filled(b"GET /?", b"x", _TARGET + 4), b"x", 414),
    "an extension": (POST + filled(b"1;", b"x", _LINES), b"x", 400),
    "extensions": (POST + (b"1;" + b"x" * 1019 + b"\r\nx\r\n") * 16, b"1;" + b"x" * 512, 400),
    "a trailer": (POST + b"1\r\n{\r\n0\r\n" + filled(b"a: ", b"x", _LINES), b"x", 431),
    "trailers": (POST + b"0\r\n" + b"a: b\r\n" * 2700, b"a: b\r\n" * 32, 431),
}


@pytest.mark.parametrize("what", TOO_MUCH)
async def test_more_than_anybody_needs_is_refused_at_once(
    running: Running, fed: Fed, what: str
) -> None:
    borne, more, status = TOO_MUCH[what]
    async with connected(running) as (reader, writer):
        writer.write(borne)
        await eventually(lambda: fed.size == len(borne))
        writer.write(more)
        told, code, detail = await refusal(reader)
    assert (told, "at most" in detail) == (status, True)
    assert code in {"head_too_large", "target_too_long", "malformed_request"}
    assert fed.size <= len(borne) + len(more)


@pytest.mark.parametrize("what", TOO_MUCH)
async def test_a_sender_who_goes_on_and_on_costs_no_more_than_one_who_does_not(
    running: Running, fed: Fed, what: str
) -> None:
    borne, more, status = TOO_MUCH[what]
    async with connected(running) as (reader, writer):
        for part in chain([borne], repeat(more * (STEP // len(more)), FLOOD // STEP)):
            writer.write(part)
            await writer.drain()
        assert (await refusal(reader))[0] == status
    assert fed.size <= len(borne) + 2 * _HEAD


@pytest.mark.parametrize(
    "head",
    [
        GET + b"a: b\r\n" * (framing.FIELDS - 1),
        b"\r\n" + filled(GET + b"a: ", b"x", _HEAD - 6) + b"\r\n",
        GET.replace(b"healthz", filled(b"healthz?", b"x", _TARGET - 1)),
    ],
)
async def test_what_is_just_within_the_bounds_is_answered(running: Running, head: bytes) -> None:
    async with connected(running) as (reader, writer):
        writer.write(head + b"\r\n")
        answer = await asyncio.wait_for(reader.readuntil(b"alive"), 10)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_signed_chunks_of_a_long_body_are_no_excess() -> None:
    signed = b"20;chunk-signature=" + b"f" * 48 + b"\r\n" + b" " * 32 + b"\r\n"
    async with serving(Digester()) as port, calling(port) as caller:
        chunked = signed * 4000 + b"0\r\nContent-MD5: x\r\n\r\n"
        await caller.send(chunked, head="Transfer-Encoding: chunked\r\n")
        assert await caller.answer() == digest(b" " * 32 * 4000)


async def test_a_trailer_is_no_header() -> None:
    app = Digester()
    async with serving(app) as port, calling(port) as caller:
        chunked = b"2\r\n{}\r\n0\r\nAuthorization: Bearer admin\r\n\r\n"
        await caller.send(chunked, head="Transfer-Encoding: chunked\r\n")
        assert await caller.answer() == digest(b"{}")
    assert b"authorization" not in dict(app.headers)


@pytest.mark.parametrize("size", [1, 7, 100, 100_000])
async def test_requests_behind_each_other_wait_as_bytes_and_are_answered_in_turn(
    running: Running, size: int
) -> None:
    count, both = 10, GET + b"\r\n" + POST + b"2\r\n{}\r\n0\r\n\r\n"
    async with connected(running) as (reader, writer):
        data = both * count
        for at in range(0, len(data), size):
            writer.write(data[at : at + size])
            await writer.drain()
        for _ in range(count):
            assert b"HTTP/1.1 200 " in await asyncio.wait_for(reader.readuntil(b"alive"), 10)
            refused = await asyncio.wait_for(reader.readuntil(b"invalid_input"), 10)
            assert b"HTTP/1.1 422 " in refused
    assert len(running[0].server_state.tasks) <= 1


async def test_of_requests_behind_each_other_one_at_a_time_is_taken_up(
    running: Running, fed: Fed
) -> None:
    async with connected(running) as (reader, writer):
        first = GET.replace(b"/healthz", b"/yard/v1/events") + b"Authorization: Bearer viewer\r\n"
        writer.write(first + b"\r\n")
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        for _ in range(10):
            writer.write((GET + b"\r\n") * 1000)
            await asyncio.sleep(0)
        assert len(running[0].server_state.tasks) == 1
        assert fed.size == len(first) + 2


async def test_others_are_answered_between_the_pieces_of_a_flood(
    running: Running, fed: Fed
) -> None:
    async with (
        connected(running) as (_, writer),
        AsyncClient(base_url=running[1], timeout=30) as http,
    ):
        await http.get("/healthz")
        writer.write(POST + b"1\r\n \r\n" * 200_000)
        await eventually(lambda: fed.pieces > PIECES_AT_ONCE)
        before = fed.pieces
        assert (await http.get("/healthz")).status_code == 200
        # A request takes a few turns of the loop.
        assert fed.pieces - before < 40 * PIECES_AT_ONCE


async def test_a_fault_behind_the_beginning_of_an_answer_is_not_written_into_it(
    running: Running,
) -> None:
    server: Server = running[0]
    async with connected(running) as (reader, writer):
        head = b"POST /yard/v1/events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        writer.write(head.replace(b"POST", b"GET") + b"Authorization: Bearer viewer\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        writer.write(b"no size\r\n")
        rest = await asyncio.wait_for(reader.read(), 10)
    assert b"HTTP/1.1 400" not in rest
    await eventually(lambda: not server.server_state.connections)
