"""Commands that no stage knows: buried, so that their sender learns of it and no queue grows."""

from __future__ import annotations

from contextlib import aclosing
from datetime import timedelta

from pipeline.adapters.bus import Bus, StoredEvent
from pipeline.core import records
from pipeline.core.burials import Burials
from pipeline.rules import topology

CODE = "unknown_command"
WORKER = "unclaimed"


class Unclaimed:
    """A command counts once it is older than `age_s`: durables may be in the making."""

    def __init__(self, bus: Bus, clock: records.Clock, *, age_s: float) -> None:
        self._bus = bus
        self._clock = clock
        self._age = timedelta(seconds=age_s)
        self._burials = Burials(bus, clock, worker=WORKER)

    async def sweep(self) -> int:
        """Bury what nobody will ever take and say how many. Idempotent. Raises BusUnavailable."""
        before = self._clock() - self._age
        buried = 0
        for subject in await self._bus.unclaimed(topology.COMMANDS):
            # What this release handles is only waiting for its durable.
            if any(topology.matches(plan.subject, subject) for plan in topology.STAGES):
                continue
            async with aclosing(self._bus.read_stored(topology.COMMANDS.name, subject)) as found:
                async for message in found:
                    if message.time < before:
                        await self._bury(message)
                        buried += 1
        return buried

    async def _bury(self, message: StoredEvent) -> None:
        stream = topology.COMMANDS.name
        await self._burials.bury(
            stream,
            message,
            stage="",
            number=0,
            code=CODE,
            reason=f"No stage handles {message.subject}: see the list of commands at /asyncapi.",
        )
        await self._bus.delete_stored(stream, message.sequence)
