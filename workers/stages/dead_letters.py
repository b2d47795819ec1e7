"""Messages whose workers died: the broker says so, and they become dead letters."""

from __future__ import annotations

import logging

from pydantic import BaseModel

from pipeline import topology
from pipeline.adapters.bus.client import Bus
from pipeline.dead_letters.writer import DeadLetterWriter
from pipeline.errors import NotFound
from workers.broker import YardBroker, stage
from workers.middleware import Received

log = logging.getLogger(__name__)

OURS = frozenset({topology.COMMANDS.name, topology.NODES.name})
CODE = "worker_lost"


class Advisory(BaseModel):
    """The broker's word that it stopped delivering a message (`io.nats.jetstream.advisory.v1`)."""

    stream: str
    consumer: str
    stream_seq: int
    deliveries: int


def register(broker: YardBroker, writer: DeadLetterWriter) -> None:
    @stage(broker, topology.ADVISORIES)
    async def advised(advisory: Advisory, received: Received) -> None:
        if advisory.stream in OURS:
            await give_up(broker.bus, writer, advisory)
        # Should the durable be made anew, an old advisory must not speak about new messages.
        await broker.bus.delete_stored(received.stream, received.message.sequence)


async def give_up(bus: Bus, writer: DeadLetterWriter, advisory: Advisory) -> None:
    """Copy the message to the dead letters and take it out of its queue. Idempotent."""
    try:
        message = await bus.stored(advisory.stream, advisory.stream_seq)
    except NotFound:
        log.info("message %d was done after all", advisory.stream_seq)
        return
    times = "once" if advisory.deliveries == 1 else f"{advisory.deliveries} times"
    await writer.dead_letter(
        advisory.stream,
        message,
        stage=advisory.consumer,
        number=advisory.deliveries,
        code=CODE,
        reason=f"Its worker died, or said nothing until the ack wait ended, {times} in a row.",
    )
    await bus.delete_stored(advisory.stream, advisory.stream_seq)
