"""The worker: FastStream's application, its stages and what every message passes through."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from faststream import FastStream
from prometheus_client import CollectorRegistry

from pipeline.adapters.bus import Bus
from pipeline.core import records
from pipeline.core.burials import Burials
from workers import dead_letters, sweeps
from workers.acknowledge import Acknowledge
from workers.broker import YardBroker
from workers.duplicates import Duplicates
from workers.envelope import Envelope
from workers.heartbeat import Heartbeat
from workers.metrics import DeliveryMetrics, Measure
from workers.sweeps import Sweep
from workers.tracing import Tracing

Register = Callable[[YardBroker], None]
"""Registers stages on a broker (`workers.intake.stage`) and does nothing else."""


def build(
    bus: Bus,
    registers: Iterable[Register],
    *,
    registry: CollectorRegistry,
    drain_s: float,
    clock: records.Clock = records.now,
    jitter: Callable[[], float] = random.random,
) -> FastStream:
    """An application over an open bus, not started yet. Its durables must exist: `Bus.prepare`."""
    burials = Burials(bus, clock, worker=f"{socket.gethostname()}:{os.getpid()}")
    metrics = DeliveryMetrics(registry)
    middlewares = (
        partial(Measure, metrics=metrics),
        Tracing,
        partial(Duplicates, running={}),
        partial(Acknowledge, burials=burials, jitter=jitter),
        Heartbeat,
        Envelope,
    )
    broker = YardBroker(bus, middlewares=middlewares, drain_s=drain_s)
    dead_letters.register(broker, burials)
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
        async with sweeps.running(ticking, jitter=random.random):
            await stopping.wait()
    finally:
        await app.stop()
