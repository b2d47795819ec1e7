"""A thousand registries looked at by one worker, and what commands notice of it."""

from __future__ import annotations

import asyncio
import statistics
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from itertools import cycle, islice

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from pipeline import topology
from pipeline.registries import wire
from schemas.message import Message
from schemas.registries.registry import Registry
from tests.bench.large_directory import NOT_NOW, ORG, Directory, P
from tests.bench.rows import Row
from tests.support.http.raw_server import Server, saying, serving
from tests.support.registries.registry_door import entry
from tests.support.tenants import principal

REGISTRIES = 1000
WITHIN_S = 60
IDLE_COMMANDS = 100
PAUSE_S = 0.1
"""Between two commands."""
DELAY_MAX = 4
"""Times what a command takes while nothing else is done."""
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
GIVE_UP_S = 180
HOSTS = range(50)
"""Registries of a real directory do not share one server, either."""


async def recheck_rows(directory: Directory) -> list[Row]:
    """The worker is started for this, and stopped."""
    worker = directory.worker()
    await worker.start()
    try:
        async with AsyncExitStack() as stack:
            watcher = await stack.enter_async_context(Watcher.open(directory))
            answering = [await stack.enter_async_context(serving(saying(OK))) for _ in HOSTS]
            silent = [await stack.enter_async_context(serving(_hang)) for _ in HOSTS]
            return await _measured(watcher, _urls(answering), _urls(silent))
    finally:
        await worker.stop()


class Watcher:
    """Gives commands, makes registries due, and hears what comes of it."""

    def __init__(self, directory: Directory, broker: Client) -> None:
        self.directory = directory
        self._broker = broker
        self._checked: dict[str, asyncio.Event] = {}
        self._updated = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def open(cls, directory: Directory) -> AsyncIterator[Watcher]:
        broker = await nats.connect(directory.settings.nats_url)
        watcher = cls(directory, broker)
        await broker.subscribe(f"{topology.events_of(ORG)[:-2]}.registry.>", cb=watcher._hear)
        commanded = wire.read(entry(id="commanded"))
        await directory.yard.registries.service.create(principal(ORG), commanded)
        try:
            yield watcher
        finally:
            await broker.close()

    async def enter(self, urls: Sequence[str]) -> list[str]:
        """Their records; none is due."""
        yard = self.directory.yard
        at = yard.records.clock()
        records = [
            Registry(
                uuid=str(uuid.uuid4()),
                org=ORG,
                created_at=at,
                updated_at=at,
                changed_at=at,
                check_at=at + NOT_NOW,
                host="127.0.0.1",
                id=uuid.uuid4().hex,
                public_url=url,
            )
            for url in urls
        ]
        for record in records:
            await yard.records.store.insert(record)
        return [record.uuid for record in records]

    async def recheck(self, uuids: Sequence[str]) -> tuple[float, list[float]]:
        """Seconds until all have been looked at, and those that commands took meanwhile."""
        self._checked = {uuid: asyncio.Event() for uuid in uuids}
        due = self.directory.yard.records.clock() - timedelta(seconds=1)
        everyone = asyncio.gather(*(event.wait() for event in self._checked.values()))
        began = time.perf_counter()
        await self.directory.yard.records.store._database[Registry.collection].update_many(
            {"_id": {"$in": list(uuids)}}, {"$set": {"check_at": due}}
        )
        taken: list[float] = []
        async with asyncio.timeout(GIVE_UP_S):
            while not everyone.done():
                taken.append(await self.command())
                await asyncio.wait([everyone], timeout=PAUSE_S)
        return time.perf_counter() - began, taken

    async def command(self) -> float:
        """Seconds from publishing a change to the event that it is made."""
        self._updated.clear()
        message = Message(
            id=uuid.uuid4().hex,
            subject=topology.command(ORG, "registry", "update"),
            type="modelyard.cmd.registry.update",
            source="bench",
            time=self.directory.yard.records.clock(),
            data={"id": "commanded", "update": {"$inc": {f"{P}metadata.n": 1}}},
        )
        began = time.perf_counter()
        await self.directory.yard.bus.publish(message)
        async with asyncio.timeout(GIVE_UP_S):
            await self._updated.wait()
        return time.perf_counter() - began

    async def _hear(self, message: Msg) -> None:
        *_, uuid, event = message.subject.split(".", 5)
        if event == "updated":
            self._updated.set()
        elif event == "checked" and uuid in self._checked:
            self._checked[uuid].set()


async def _measured(watcher: Watcher, answering: Iterator[str], silent: Iterator[str]) -> list[Row]:
    await watcher.command()
    idle = []
    for _ in range(IDLE_COMMANDS):
        idle.append(await watcher.command())
        await asyncio.sleep(PAUSE_S)
    tenth = REGISTRIES // 10
    refusing = ["http://127.0.0.1:9"] * tenth
    urls = [*islice(answering, 8 * tenth), *islice(silent, tenth), *refusing]
    mixed = await watcher.enter(urls)
    worst = await watcher.enter(list(islice(silent, REGISTRIES)))
    rows = []
    for what, uuids in (("a tenth hangs, a tenth refuses", mixed), ("all hang", worst)):
        took_s, meanwhile = await watcher.recheck(uuids)
        rows += [_took(what, took_s), _delayed(what, meanwhile, idle)]
    return rows


def _took(what: str, took_s: float) -> Row:
    return Row(
        f"{REGISTRIES} registries re-checked by one worker, {what}",
        f"{took_s:.1f} s",
        f"{WITHIN_S} s",
        took_s / WITHIN_S,
        "≤ 1",
        took_s <= WITHIN_S,
    )


def _delayed(what: str, meanwhile: list[float], idle: list[float]) -> Row:
    busy_ms, idle_ms = (_p99(taken) * 1000 for taken in (meanwhile, idle))
    medians = f"{_median(meanwhile):.0f} ms", f"{_median(idle):.0f} ms"
    return Row(
        f"a command meanwhile ({what}), p99 (median)",
        f"{busy_ms:.0f} ms ({medians[0]})",
        f"the same while idle: {idle_ms:.0f} ms ({medians[1]})",
        busy_ms / idle_ms,
        f"≤ {DELAY_MAX}",
        busy_ms <= DELAY_MAX * idle_ms,
    )


def _median(taken: Sequence[float]) -> float:
    return statistics.median(taken) * 1000


def _p99(taken: Sequence[float]) -> float:
    return sorted(taken)[int(len(taken) * 0.99)]


def _urls(servers: Sequence[Server]) -> Iterator[str]:
    return cycle([f"http://127.0.0.1:{server.port}" for server in servers])


async def _hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
