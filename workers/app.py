"""The worker: FastStream's application, what every message passes through, and sweeps."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from faststream import FastStream
from prometheus_client import CollectorRegistry

from pipeline import concurrency
from pipeline.adapters.bus.client import Bus
from pipeline.adapters.store.store import Store
from pipeline.dead_letters.writer import DeadLetterWriter, Seal
from pipeline.errors import YardError
from pipeline.records.kernel import Clock, now
from pipeline.telemetry import log_fields
from workers.broker import YardBroker
from workers.middleware import (
    Acknowledge,
    DeliveryMetrics,
    Duplicates,
    Envelope,
    Heartbeat,
    Measure,
    Tracing,
)
from workers.stages import dead_letters

log = logging.getLogger(__name__)

Register = Callable[[YardBroker], None]
"""Registers stages on a broker (`workers.broker.stage`) and does nothing else."""

ALIVE_EVERY_S = 3


def build(
    bus: Bus,
    registers: Iterable[Register],
    *,
    registry: CollectorRegistry,
    drain_s: float,
    seal: Seal | None = None,
    clock: Clock = now,
    jitter: Callable[[], float] = random.random,
) -> FastStream:
    """An application over an open bus, not started yet. Its durables must exist: `Bus.prepare`."""
    worker = f"{socket.gethostname()}:{os.getpid()}"
    writer = DeadLetterWriter(bus, clock, worker=worker, seal=seal)
    metrics = DeliveryMetrics(registry)
    middlewares = (
        partial(Measure, metrics=metrics),
        Tracing,
        partial(Duplicates, running={}),
        partial(Acknowledge, writer=writer, jitter=jitter),
        Heartbeat,
        Envelope,
    )
    broker = YardBroker(bus, middlewares=middlewares, drain_s=drain_s)
    dead_letters.register(broker, writer)
    for register in registers:
        register(broker)
    return FastStream(broker, logger=None)


async def run(app: FastStream, ticking: Sequence[Sweep] = ()) -> None:
    """Work until SIGTERM or SIGINT, then drain: see `StageSubscriber.stop`."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await app.start()
    try:
        async with running(ticking, jitter=random.random):
            await stopping.wait()
    finally:
        await app.stop()


@dataclass(frozen=True, slots=True)
class Sweep:
    """Every worker runs every sweep, so what it does must bear being done twice."""

    name: str
    interval_s: float
    """On average: each pause is drawn anew, so that workers do not sweep in step."""
    run: Callable[[], Awaitable[object]]


@asynccontextmanager
async def running(sweeps: Iterable[Sweep], *, jitter: Callable[[], float]) -> AsyncIterator[None]:
    """Run them while open, each in a task of its own; `jitter` draws from [0, 1).

    A sweep never overlaps itself. One that fails is logged and runs again.
    """
    ticking = [
        asyncio.create_task(_tick(sweep, jitter), name=f"sweep {sweep.name}") for sweep in sweeps
    ]
    try:
        yield
    finally:
        await concurrency.cancel_and_wait(*ticking)


async def _tick(sweep: Sweep, jitter: Callable[[], float]) -> None:
    with log_fields(sweep=sweep.name):
        while True:
            await asyncio.sleep(sweep.interval_s * (0.5 + jitter()))
            try:
                await sweep.run()
            except YardError as error:
                log.warning("sweep failed: %s", error.message)
            except Exception:
                log.exception("sweep failed")


def alive(file: str, bus: Bus, store: Store) -> list[Sweep]:
    """Touches `file` for as long as this process can work; none when it is empty."""
    return [Sweep("alive", ALIVE_EVERY_S, partial(_touch, Path(file), bus, store))] if file else []


async def _touch(file: Path, bus: Bus, store: Store) -> None:
    """Raises BusUnavailable and StoreUnavailable, and then leaves the file as it is."""
    await bus.ping()
    await store.ping()
    file.touch()
