"""A worker inside a test, with one stage of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from pipeline import topology
from pipeline.adapters.bus.client import Bus
from pipeline.adapters.bus.pull import ReceivedMessage
from pipeline.dead_letters.writer import Seal
from pipeline.secrets.vault import Vault
from pipeline.topology import StagePlan
from schemas.access import Principal
from schemas.message import Message
from workers.app import build
from workers.broker import YardBroker, stage
from workers.middleware import Command, Received

TRIAL = StagePlan(
    durable="trial",
    stream=topology.COMMANDS,
    subject="yard.cmd.*.trial.run",
    ack_wait_s=5,
    max_deliver=3,
    retry_base_s=0.05,
    retry_cap_s=0.2,
    workers=4,
)
QUICK = replace(TRIAL, ack_wait_s=0.6)


class Order(BaseModel):
    number: int


VAULT = Vault({"k1": b"k" * 32})

Work = Callable[[Order, Message], Awaitable[None]]


class Worker:
    """What a stage saw. `work` does the handling; without one, everything succeeds."""

    def __init__(self, work: Work | None = None) -> None:
        self.begun: list[int] = []
        self.done: list[int] = []
        self.cancelled: list[int] = []
        self.commands: list[Message] = []
        self.received: list[ReceivedMessage] = []
        self.registry = CollectorRegistry()
        self._work = work

    async def handle(self, order: Order, command: Message, received: ReceivedMessage) -> None:
        self.received.append(received)
        self.begun.append(order.number)
        self.commands.append(command)
        try:
            if self._work is not None:
                await self._work(order, command)
        except asyncio.CancelledError:
            self.cancelled.append(order.number)
            raise
        self.done.append(order.number)

    def count(self, outcome: str, stage: str = "trial") -> float:
        labels = {"stage": stage, "outcome": outcome}
        return self.registry.get_sample_value("modelyard_deliveries_total", labels) or 0


@asynccontextmanager
async def working(
    bus: Bus,
    worker: Worker,
    plan: StagePlan = TRIAL,
    *,
    drain_s: float = 5,
    seal: Seal | None = VAULT,
) -> AsyncIterator[Worker]:
    def register(broker: YardBroker) -> None:
        @stage(broker, plan)
        async def trial(order: Order, command: Command, received: Received) -> None:
            await worker.handle(order, command, received)

    await bus.prepare_stage(plan)
    app = build(
        bus, [register], registry=worker.registry, drain_s=drain_s, jitter=lambda: 0.5, seal=seal
    )
    await app.start()
    try:
        yield worker
    finally:
        await app.stop()


def member(org: str) -> Principal:
    return Principal(
        id="user:1", org=org, name="somebody", roles=frozenset(), permissions=frozenset()
    )


def command(number: int, *, org: str = "acme", **data: Any) -> Message:
    return Message(
        id=f"{org}-{number}",
        subject=topology.command(org, "trial", "run"),
        type="modelyard.cmd.trial.run",
        time=datetime.now(UTC),
        actor="user:1",
        data={"number": number} | data,
    )
