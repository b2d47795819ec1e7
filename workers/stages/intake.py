"""Commands of organisations, taken over from the streams into which their broker users publish."""

from __future__ import annotations

from pipeline import topology
from pipeline.adapters.bus.client import Bus
from schemas.message import ID_HEADER
from workers.broker import StageSubscriber, YardBroker, add_stage
from workers.middleware import Received

DROPPED = frozenset({"ce-causationid", "ce-origin"})
"""What a command from outside causes is caused by that command, and came from here, whatever it
says."""


class Intakes:
    """One stage per organisation that has a user on the broker, also for those that come later."""

    def __init__(self, broker: YardBroker, bus: Bus) -> None:
        self._broker = broker
        self._bus = bus
        self._stages: dict[str, StageSubscriber] = {}

    async def sweep(self) -> None:
        """Take in from streams that were found anew (`Bus.prepare_org` makes them). Idempotent.

        Raises BusUnavailable.
        """
        for org in await self._bus.asking() - self._stages.keys():
            plan = topology.intake(org)
            await self._bus.prepare_stage(plan)
            self._stages[org] = await add_stage(self._broker, plan, self._take_in)

    async def _take_in(self, received: Received) -> None:
        """Publish it as a command under an id that no other organisation can give.

        The CloudEvent keeps its own id. Taken in twice it is the same message.
        """
        asked = received.message
        given = asked.headers.get(ID_HEADER) or f"{received.stream}-{asked.sequence}"
        kept = {name: each for name, each in asked.headers.items() if name.lower() not in DROPPED}
        org = topology.org_of(asked.subject)
        await self._bus.publish_raw(
            topology.taken_in(asked.subject), asked.data, kept | {ID_HEADER: f"queue.{org}.{given}"}
        )
