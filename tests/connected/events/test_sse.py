"""The event stream of real API processes over a real broker."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator

import httpx
import pytest

from pipeline import topology
from pipeline.adapters.bus.client import Bus
from pipeline.records.idempotency import new_id
from pipeline.records.kernel import now
from pipeline.stack.pieces.nats import NatsPiece
from schemas.message import Message
from tests.support.http.api_process import ORG, ApiProcess, api_process, log_in, settings
from tests.support.http.frames import Seen
from tests.support.http.sse import stream

PATH = "/yard/v1/events"


@pytest.fixture
async def api(own_nats: NatsPiece, mongo_url: str) -> AsyncIterator[ApiProcess]:
    async with api_process(settings(own_nats.url, mongo_url, event_buffer_frames=64)) as api:
        yield api


@pytest.fixture
async def http(api: ApiProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=api.url, timeout=30) as client:
        await log_in(client)
        yield client


@pytest.fixture
async def events(own_nats: NatsPiece, api: ApiProcess) -> AsyncIterator[Bus]:
    async with Bus.open(own_nats.url, name="test") as bus:
        yield bus


async def happen(bus: Bus, *numbers: int, org: str = ORG, filler: int = 0) -> None:
    for number in numbers:
        message = Message(
            id=new_id(),
            subject=topology.event(org, "image", "i1", "changed"),
            type="modelyard.image.changed",
            time=now(),
            data={"number": number, "filler": "x" * filler},
        )
        await bus.publish(message)


def numbers(found: list[Seen]) -> list[int]:
    return [event.data["data"]["number"] for event in found]


async def test_a_reader_resumes_across_a_restart_without_gap_or_duplicate(
    api: ApiProcess, http: httpx.AsyncClient, events: Bus
) -> None:
    async with stream(http, PATH) as reader:
        await reader.frame()
        await happen(events, *range(5))
        before = await reader.events(5)
        assert await api.stop() == -signal.SIGTERM
        assert (await reader.frame()).event == "bye"
        await reader.end()
    await happen(events, *range(5, 300))
    await api.start()
    async with stream(http, PATH, headers={"Last-Event-ID": before[-1].id}) as reader:
        await happen(events, *range(300, 310))
        after = await reader.events(305)
    assert numbers([*before, *after]) == list(range(310))


async def test_a_reader_moves_from_one_process_to_another(
    api: ApiProcess, http: httpx.AsyncClient, events: Bus
) -> None:
    other = settings(
        api.settings.nats_url, api.settings.mongo_url, mongo_database=api.settings.mongo_database
    )
    async with (
        api_process(other) as second,
        httpx.AsyncClient(base_url=second.url, headers=http.headers, timeout=30) as elsewhere,
        stream(http, PATH) as here,
        stream(elsewhere, PATH) as there,
    ):
        await here.frame()
        await there.frame()
        await happen(events, *range(20))
        seen_here, seen_there = await here.events(20), await there.events(20)
        assert seen_here == seen_there
        async with stream(elsewhere, PATH, headers={"Last-Event-ID": seen_here[9].id}) as moved:
            assert numbers(await moved.events(10)) == list(range(10, 20))


async def test_a_reader_sees_its_organisation_only(http: httpx.AsyncClient, events: Bus) -> None:
    async with stream(http, PATH) as reader:
        await reader.frame()
        await happen(events, 1, 2, org="stranger")
        await happen(events, 3)
        assert numbers(await reader.events(1)) == [3]


async def test_events_of_many_publishers_come_in_one_order_for_all(
    http: httpx.AsyncClient, events: Bus
) -> None:
    async with stream(http, PATH) as one, stream(http, PATH) as two:
        await one.frame()
        await two.frame()
        await asyncio.gather(*(happen(events, *range(n * 50, n * 50 + 50)) for n in range(8)))
        first, second = await one.events(400), await two.events(400)
    assert first == second
    assert sorted(numbers(first)) == list(range(400))
    sequences = [event.sequence for event in first]
    assert sequences == sorted(set(sequences))


async def test_what_the_broker_missed_to_tell_is_healed(
    own_nats: NatsPiece, http: httpx.AsyncClient, events: Bus
) -> None:
    async with stream(http, PATH) as reader:
        await reader.frame()
        await happen(events, 0)
        await own_nats.kill()
        await own_nats.start()
        await happen(events, *range(1, 30))
        assert numbers(await reader.events(30)) == list(range(30))


async def test_an_id_that_retention_has_taken_resets(http: httpx.AsyncClient, events: Bus) -> None:
    async with stream(http, PATH) as reader:
        first = await reader.frame()
    await happen(events, *range(200))
    await events.client.jetstream().purge_stream(topology.EVENTS.name, seq=150)
    async with stream(http, PATH, headers={"Last-Event-ID": str(first.id)}) as reader:
        await reader.frame()
        reset = await reader.frame()
        assert (reset.event, reset.data["reason"]) == ("reset", "expired")
        found = await reader.events(51)
    assert [event.sequence for event in found] == list(range(150, 201))


async def test_a_stream_that_is_made_anew_resets(
    api: ApiProcess, http: httpx.AsyncClient, events: Bus
) -> None:
    async with stream(http, PATH) as reader:
        await reader.frame()
        await happen(events, 1)
        [last] = await reader.events(1)
        await events.client.jetstream().delete_stream(topology.EVENTS.name)
        await events.prepare()
        await happen(events, 2)
        assert (await reader.frame()).event == "bye"
        await reader.end()
    async with stream(http, PATH, headers={"Last-Event-ID": str(last.id)}) as reader:
        await reader.frame()
        assert (await reader.frame()).data["reason"] == "stream_recreated"
        assert numbers(await reader.events(1)) == [2]


async def test_a_slow_reader_hurts_nobody_and_misses_nothing(
    api: ApiProcess, http: httpx.AsyncClient, events: Bus
) -> None:
    reader, writer = await _raw(api, http)
    async with stream(http, PATH) as quick:
        await quick.frame()
        for start in range(0, 400, 50):
            await happen(events, *range(start, start + 50), filler=20_000)
            assert numbers(await quick.events(50)) == list(range(start, start + 50))
        assert api.rss_mib < 150
    found = await _numbers(reader, 400)
    writer.close()
    assert found == list(range(400))
    behind = (await http.get("/metrics")).text
    assert re.search(r"^modelyard_event_readers_behind_total [1-9]", behind, re.MULTILINE)


async def test_many_readers_that_come_back_at_once_are_served(
    http: httpx.AsyncClient, events: Bus
) -> None:
    await happen(events, *range(40))

    async def come_back() -> list[int]:
        # Founding the administrator is an event, too.
        from_the_first = {"last_event_id": "none", "resource": "image"}
        async with stream(http, PATH, params=from_the_first) as reader:
            return numbers(await reader.events(40))

    found = await asyncio.gather(*(come_back() for _ in range(60)))
    assert found == [list(range(40))] * 60


async def _raw(
    api: ApiProcess, http: httpx.AsyncClient
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection whose reader takes what it must and no more."""
    port = api.settings.api_port
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2048)
    token = http.headers["authorization"]
    writer.write(f"GET {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def _numbers(reader: asyncio.StreamReader, count: int) -> list[int]:
    """The numbers of what comes, until that many events are there."""
    text, found = "", list[str]()
    async with asyncio.timeout(20):
        while len(found) < count:
            text += (await reader.read(1 << 20)).decode()
            found = re.findall(r'"number":\s*(\d+)[,}]', text)
    return [int(number) for number in found]
