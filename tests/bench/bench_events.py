"""Events to 200 readers of one process, one of whom does not read, beside the same bytes by bare
ASGI; and how long an event takes from its publisher to a reader.

python -m tests.bench.bench_events
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import httpx

from pipeline import topology
from pipeline.adapters.bus.client import Bus
from pipeline.records.idempotency import new_id
from pipeline.records.kernel import now
from schemas.message import Message
from tests.bench.bench_idle import resident_mib
from tests.bench.rows import Row, keep
from tests.support.http.api_process import ORG, api_process, log_in, settings
from tests.support.processes import any_free
from tests.support.systems.services import Services

READERS: Final = 200
BURST: Final = 256
BURSTS: Final = 10
UNDER_WAY: Final = 2
"""Bursts that are told before the first is read: fewer events than a reader may have pending."""
RATE: Final = 1000
LATENCY_S: Final = 5.0
STEP_S: Final = 0.01
WAIT_S: Final = 20
LOOK_S: Final = 0.005


class Reader(asyncio.Protocol):
    """Counts frames."""

    def __init__(self, path: str, *, is_stalled: bool = False) -> None:
        self.frames = 0
        self._request = f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
        self._is_stalled = is_stalled
        self._carry = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        transport.write(self._request)
        if self._is_stalled:
            transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        self.frames += (self._carry + data).count(b"\n\n")
        self._carry = b"\n" if data.endswith(b"\n") and not data.endswith(b"\n\n") else b""


@asynccontextmanager
async def a_server() -> AsyncIterator[tuple[int, int]]:
    """Its process and its port."""
    port = any_free(random.Random())
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.events_server", str(port)
    )
    try:
        async with asyncio.timeout(WAIT_S):
            while not await _answers(port):  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(LOOK_S)
        yield child.pid, port
    finally:
        child.kill()
        await child.wait()


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def connect(port: int, path: str, count: int, *, is_stalled: bool = False) -> list[Reader]:
    loop = asyncio.get_running_loop()
    readers = [Reader(path, is_stalled=is_stalled) for _ in range(count)]
    for reader in readers:
        await loop.create_connection(lambda reader=reader: reader, "127.0.0.1", port)  # type: ignore[misc]
    return readers


async def until(readers: Sequence[Reader], frames: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while min(reader.frames for reader in readers) < frames:  # noqa: ASYNC110 - many protocols
            await asyncio.sleep(LOOK_S)


async def told(port: int, http: httpx.AsyncClient) -> float:
    """Events per second to all readers that read."""
    readers = await connect(port, "/events", READERS - 1)
    await connect(port, "/events", 1, is_stalled=True)
    await until(readers, 1)
    began = time.perf_counter()
    for number in range(BURSTS):
        await http.post("/happen", params={"count": BURST})
        await until(readers, 1 + BURST * (number + 1 - UNDER_WAY))
    await until(readers, 1 + BURST * BURSTS)
    return BURSTS * BURST * len(readers) / (time.perf_counter() - began)


async def sent_raw(port: int) -> float:
    """The same bytes by bare ASGI to as many readers."""
    began = time.perf_counter()
    frames = BURSTS * BURST
    readers = await connect(port, f"/raw/?count={frames}", READERS - 1)
    await until(readers, frames)
    return frames * len(readers) / (time.perf_counter() - began)


async def fan_out() -> list[Row]:
    async with a_server() as (pid, port):
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=url, timeout=WAIT_S) as http:
            raw = await sent_raw(port)
            before = resident_mib(pid)
            ours = await told(port, http)
            more = resident_mib(pid) - before
    what = f"events/s to {READERS} readers, one of whom does not read"
    shown = f"{ours:,.0f}/s"
    return [
        Row(
            what, shown, f"raw bytes by ASGI: {raw:,.0f}/s", ours / raw, "≥ 0.8", ours >= 0.8 * raw
        ),
        Row(what, shown, "50,000/s", ours / 50_000, "≥ 1", ours >= 50_000),
        Row("memory meanwhile", f"+{more:.0f} MiB", "before", more / 64, "≤ 64 MiB", more <= 64),
    ]


async def latency() -> Row:
    services = Services()
    try:
        nats, mongod = services.nats(), services.mongod()
        await nats.start()
        await mongod.start()
        async with (
            api_process(settings(nats.url, mongod.url)) as api,
            httpx.AsyncClient(base_url=api.url, timeout=WAIT_S) as http,
            Bus.open(nats.url, name="bench") as bus,
        ):
            await log_in(http)
            waits_ms, rate = await _published(http, bus)
    finally:
        await services.stop()
    waits_ms.sort()
    p99 = waits_ms[int(len(waits_ms) * 0.99)]
    return Row(
        f"publish → reader, p99 (median), at {RATE:,} events/s",
        f"{p99:.1f} ms ({statistics.median(waits_ms):.1f} ms)",
        f"50 ms, at {rate:,.0f} events/s",
        p99 / 50,
        "≤ 1",
        p99 <= 50 and rate >= 0.9 * RATE,
    )


async def _published(http: httpx.AsyncClient, bus: Bus) -> tuple[list[float], float]:
    """Milliseconds of each event, and how many a second were published."""
    count = int(RATE * LATENCY_S)
    waits_ms: list[float] = []
    async with http.stream("GET", "/yard/v1/events", params={"resource": "image"}) as answer:
        lines = answer.aiter_lines()
        await anext(lines)
        reading = asyncio.create_task(_read(lines, count, waits_ms))
        began = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for number in range(count):
                if (ahead_s := began + number / RATE - time.perf_counter()) > STEP_S:
                    await asyncio.sleep(ahead_s)
                tasks.create_task(_publish(bus))
        took_s = time.perf_counter() - began
        async with asyncio.timeout(WAIT_S):
            await reading
    return waits_ms, count / took_s


async def _read(lines: AsyncIterator[str], count: int, waits_ms: list[float]) -> None:
    while len(waits_ms) < count:
        line = await anext(lines)
        if line.startswith("data: "):
            told = json.loads(line[6:])
            waits_ms.append((time.perf_counter() - told["data"]["at"]) * 1000)


async def _publish(bus: Bus) -> None:
    message = Message(
        id=new_id(),
        subject=topology.event(ORG, "image", "i1", "changed"),
        type="modelyard.image.changed",
        time=now(),
        data={"at": time.perf_counter()},
    )
    await bus.publish(message, timeout_s=WAIT_S)


async def main() -> None:
    keep("events", [*await fan_out(), await latency()])


if __name__ == "__main__":
    asyncio.run(main())
