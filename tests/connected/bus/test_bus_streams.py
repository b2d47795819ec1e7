"""One request with many replies, as container logs are followed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import pytest

from pipeline.adapters.bus import request_stream
from pipeline.adapters.bus.client import Bus
from pipeline.errors import (
    BusUnavailable,
    ContainerMissing,
    Overloaded,
    Timeout,
    TooLarge,
    YardError,
)
from pipeline.stack.pieces.nats import NatsPiece
from tests.support.waiting import eventually

SUBJECT = "yard.agent.n1.logs"


class Source:
    """Chunks without end, and what became of their reader."""

    def __init__(self) -> None:
        self.made = 0
        self.closed = asyncio.Event()
        self.more = asyncio.Event()
        self.more.set()

    async def chunks(self, payload: bytes) -> AsyncIterator[bytes]:
        try:
            while True:
                await self.more.wait()
                self.made += 1
                yield b"%s %d" % (payload, self.made)
                await asyncio.sleep(0)
        finally:
            self.closed.set()


async def collect(bus: Bus, *, idle_s: float = 5) -> list[bytes]:
    return [chunk async for chunk in bus.request_stream(SUBJECT, b"p", idle_s=idle_s)]


async def test_all_chunks_arrive_in_order_and_then_it_ends(bus: Bus) -> None:
    async def count(payload: bytes) -> AsyncIterator[bytes]:
        for number in range(500):
            yield b"%s%d" % (payload, number)

    async with bus.serve_stream(SUBJECT, count):
        expected = [b"p%d" % number for number in range(500)]
        assert await asyncio.gather(collect(bus), collect(bus)) == [expected, expected]


async def test_nobody_there_is_said_at_once(bus: Bus) -> None:
    with pytest.raises(BusUnavailable, match="Nobody answers"):
        await collect(bus)


@pytest.mark.parametrize("chunks_before", [0, 3])
async def test_an_error_of_the_handler_arrives_as_what_it_is(bus: Bus, chunks_before: int) -> None:
    async def fail(_: bytes) -> AsyncIterator[bytes]:
        for _number in range(chunks_before):
            yield b"x"
        raise ContainerMissing("The container\r\nis gone.")

    seen = []

    async def read() -> None:
        async for chunk in bus.request_stream(SUBJECT, b"", idle_s=5):
            seen.append(chunk)

    async with bus.serve_stream(SUBJECT, fail):
        with pytest.raises(ContainerMissing, match=r"The container is gone\."):
            await read()
    assert len(seen) == chunks_before


async def test_a_bug_of_the_handler_is_an_error_without_its_details(
    bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(_: bytes) -> AsyncIterator[bytes]:
        yield b"x"
        raise KeyError("inner secret")

    async with bus.serve_stream(SUBJECT, fail):
        with pytest.raises(YardError) as caught:
            await collect(bus)
    assert "secret" not in str(caught.value)
    assert "inner secret" in caplog.text


async def test_a_reader_that_leaves_stops_the_source(bus: Bus) -> None:
    source = Source()
    async with bus.serve_stream(SUBJECT, source.chunks):
        async with aclosing(bus.request_stream(SUBJECT, b"", idle_s=5)) as chunks:
            await anext(chunks)
        await asyncio.wait_for(source.closed.wait(), 30)


async def test_a_reader_that_vanishes_stops_the_source(
    bus: Bus, own_nats: NatsPiece, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Out of credit, the source sends nothing but signs of life.
    monkeypatch.setattr(request_stream, "ALIVE_S", 0.2)
    source = Source()
    async with bus.serve_stream(SUBJECT, source.chunks):
        async with Bus.open(own_nats.url, name="reader") as reader:
            chunks = reader.request_stream(SUBJECT, b"", idle_s=5)
            await anext(chunks)
        await asyncio.wait_for(source.closed.wait(), 30)
        await chunks.aclose()


async def test_a_slow_reader_holds_the_source_back(bus: Bus) -> None:
    source = Source()
    async with bus.serve_stream(SUBJECT, source.chunks):
        async with aclosing(bus.request_stream(SUBJECT, b"", idle_s=5)) as chunks:
            await anext(chunks)
            await eventually(lambda: source.made > request_stream.WINDOW)
            for _ in range(200):
                await asyncio.sleep(0)
            assert source.made <= request_stream.WINDOW + 1
            for _ in range(3 * request_stream.WINDOW):
                await anext(chunks)
        await asyncio.wait_for(source.closed.wait(), 30)


async def test_a_quiet_source_shows_that_it_lives_and_a_dead_one_times_out(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_stream, "ALIVE_S", 0.05)
    source = Source()
    source.more.clear()
    async with bus.serve_stream(SUBJECT, source.chunks):
        async with aclosing(bus.request_stream(SUBJECT, b"", idle_s=0.4)) as chunks:
            asyncio.get_running_loop().call_later(0.8, source.more.set)
            assert await anext(chunks) == b" 1"
        await asyncio.wait_for(source.closed.wait(), 30)

        monkeypatch.setattr(request_stream, "ALIVE_S", 60)
        source.more.clear()
        with pytest.raises(Timeout):
            await collect(bus, idle_s=0.2)


async def test_leaving_the_server_ends_its_streams_with_a_word(bus: Bus) -> None:
    source = Source()
    async with bus.serve_stream(SUBJECT, source.chunks):
        reading = asyncio.ensure_future(collect(bus))
        await eventually(lambda: source.made > 0)
    with pytest.raises(BusUnavailable, match="shutting down"):
        await reading
    assert source.closed.is_set()


async def test_too_many_streams_are_refused(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_stream, "STREAMS", 1)
    source = Source()
    async with bus.serve_stream(SUBJECT, source.chunks):
        first: AsyncGenerator[bytes, None] = bus.request_stream(SUBJECT, b"", idle_s=5)
        async with aclosing(first):
            await anext(first)
            with pytest.raises(Overloaded):
                await collect(bus)


async def test_a_chunk_above_the_limit_of_the_broker_is_an_error(bus: Bus) -> None:
    async def huge(_: bytes) -> AsyncIterator[bytes]:
        yield b"x" * bus.max_payload

    async with bus.serve_stream(SUBJECT, huge):
        with pytest.raises(TooLarge):
            await collect(bus)
