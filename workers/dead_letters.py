"""Messages whose workers died: the broker says so, and they become dead letters."""

from __future__ import annotations

import logging

from pydantic import BaseModel

from pipeline.adapters.bus import Bus
from pipeline.core.burials import Burials
from pipeline.errors import NotFound
from pipeline.rules import topology
from workers.broker import YardBroker
from workers.envelope import Received
from workers.intake import stage

log = logging.getLogger(__name__)

OURS = frozenset({topology.COMMANDS.name, topology.NODES.name})
CODE = "worker_lost"


class Advisory(BaseModel):
    """The broker's word that it stopped delivering a message (`io.nats.jetstream.advisory.v1`)."""

    stream: str
    consumer: str
    stream_seq: int
    deliveries: int


def register(broker: YardBroker, burials: Burials) -> None:
    @stage(broker, topology.ADVISORIES)
    async def advised(advisory: Advisory, received: Received) -> None:
        if advisory.stream in OURS:
            await bury(broker.bus, burials, advisory)
        # Should the durable be made anew, an old advisory must not speak about new messages.
        await broker.bus.delete_stored(received.stream, received.message.sequence)


async def bury(bus: Bus, burials: Burials, advisory: Advisory) -> None:
    """Copy the message to the dead letters and take it out of its queue. Idempotent."""
    try:
        message = await bus.stored(advisory.stream, advisory.stream_seq)
    except NotFound:
        log.info("message %d was done after all", advisory.stream_seq)
        return
    times = "once" if advisory.deliveries == 1 else f"{advisory.deliveries} times"
    await burials.bury(
        advisory.stream,
        message,
        stage=advisory.consumer,
        number=advisory.deliveries,
        code=CODE,
        reason=f"Its worker died, or said nothing until the ack wait ended, {times} in a row.",
    )
    await bus.delete_stored(advisory.stream, advisory.stream_seq)
