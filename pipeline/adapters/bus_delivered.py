"""One delivery of a stored message, until it is acknowledged or given back."""

from __future__ import annotations

from dataclasses import dataclass

from nats.aio.msg import Msg

from pipeline.adapters.bus_errors import translated
from pipeline.adapters.bus_reading import StoredEvent, published

Key = tuple[str, int, str]


@dataclass(slots=True)
class Delivered:
    """One delivery of a stored message, with the ways to answer it."""

    stream: str
    attempt: int
    """From 1."""
    message: StoredEvent
    raw: Msg
    """The newest delivery of the message: what is said through an older one may not count."""

    @classmethod
    def of(cls, raw: Msg) -> Delivered:
        about = raw.metadata
        message = StoredEvent(
            sequence=about.sequence.stream,
            subject=raw.subject,
            headers=published(raw.headers or {}),
            data=raw.data,
            time=about.timestamp,
        )
        return cls(about.stream, about.num_delivered, message, raw)

    @property
    def key(self) -> Key:
        """The same for every delivery of one message, and for no other message."""
        return self.stream, self.message.sequence, self.message.time.isoformat()

    async def ack(self) -> None:
        """It is done. Raises BusUnavailable; the message then comes again."""
        with translated():
            await self.raw.ack()

    async def give_back(self, *, delay_s: float = 0) -> None:
        """To be delivered again, here or elsewhere. Raises BusUnavailable."""
        with translated():
            await self.raw.nak(delay=delay_s)

    async def say_alive(self) -> None:
        """The ack wait begins anew. Raises BusUnavailable."""
        with translated():
            await self.raw.in_progress()
