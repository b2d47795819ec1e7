"""What a worker does every so often, whatever messages say."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pipeline import tasks
from pipeline.errors import YardError
from pipeline.telemetry import log_fields

log = logging.getLogger(__name__)


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
        await tasks.end(*ticking)


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
