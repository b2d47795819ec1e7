"""Output on the real broker: in order, through workers that come and go."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from pipeline import topology
from pipeline.adapters.bus.client import Bus
from pipeline.errors import Timeout
from pipeline.logs import sending
from pipeline.logs.sending import LogSender
from pipeline.logs.service import LogFilter, LogServices, StoredLogs
from tests.support.engines.node_rig import NodeRig, agent_of
from tests.support.waiting import eventually
from workers import app
from workers.stages import logs


@asynccontextmanager
async def a_worker(rig: NodeRig, bus: Bus) -> AsyncIterator[None]:
    services: Any = SimpleNamespace(logs=LogServices.over(rig.records, rig.settings), bus=bus)
    register = partial(logs.register, services=services)
    handling = app.build(bus, [register], registry=CollectorRegistry(), drain_s=5)
    await handling.start()
    try:
        yield
    finally:
        await handling.stop()


@asynccontextmanager
async def an_agent(rig: NodeRig, bus: Bus) -> AsyncIterator[None]:
    agent = agent_of(rig, "one", bus)
    running = asyncio.create_task(agent.output.run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait([running])


async def text_of(rig: NodeRig) -> str:
    logs, text, cursor = StoredLogs(rig.store), "", None
    while True:
        page = await logs.list(rig.caller, LogFilter(), limit=1000, cursor=cursor)
        text = "".join(chunk.text for chunk in reversed(page.items)) + text
        if (cursor := page.next) is None:
            return text


async def test_output_comes_through_while_workers_and_agents_come_and_go(
    rig: NodeRig, bus: Bus
) -> None:
    await rig.up()
    made, expected = rig.world.only(), ""
    for number in range(3):
        async with an_agent(rig, bus):
            async with a_worker(rig, bus):
                await eventually(lambda: bool(made.listeners))
                for count in range(1000):
                    line = f"{number} {count} {'x' * 50}\n"
                    rig.world.write(made, line)
                    expected += line
            # What is sent now nobody takes; the next agent is told how far it came all the same.
            rig.world.write(made, f"{number} nobody listens\n")
            expected += f"{number} nobody listens\n"
            position = await bus.position(topology.LOGS)
            await eventually(partial(_has_more, bus, position.last))
    async with an_agent(rig, bus), a_worker(rig, bus):

        async def is_all() -> bool:
            return await text_of(rig) == expected

        await eventually(is_all)


async def _has_more(bus: Bus, than: int) -> bool:
    return (await bus.position(topology.LOGS)).last > than


async def test_without_a_worker_an_agent_waits(
    rig: NodeRig, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "ANSWER_S", 0.1)
    sender = LogSender(bus, node="n", session="s")
    with pytest.raises(Timeout):
        await sender.open([])
    monkeypatch.setattr(sending, "ANSWER_S", 10)
    async with a_worker(rig, bus):
        assert await sender.open(["unknown"]) == {"unknown": {}}


async def test_what_is_no_output_is_dropped_and_holds_nothing_up(rig: NodeRig, bus: Bus) -> None:
    for data in (b"{", b"[]", json.dumps({"session": "s", "chunks": []}).encode()):
        await bus.publish_raw(topology.log_batch("n"), data, {})
    async with a_worker(rig, bus):
        assert await LogSender(bus, node="n", session="s").open([]) == {}


async def test_workers_take_one_message_at_a_time(rig: NodeRig, bus: Bus) -> None:
    info = await bus.client.jetstream().consumer_info(topology.LOGS.name, "log-intake")
    assert info.config.max_ack_pending == 1
    stream = await bus.client.jetstream().stream_info(topology.LOGS.name)
    assert stream.config.max_bytes == topology.LOGS.max_bytes
