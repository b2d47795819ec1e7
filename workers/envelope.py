"""The CloudEvent around the data of a message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from faststream import BaseMiddleware, Context

from pipeline.adapters.bus import Delivered
from pipeline.errors import PoisonMessage
from pipeline.rules.topology import StagePlan
from schemas.message import Message

Command = Annotated[Message, Context("command")]
"""Parameter of a handler that needs more than the data: id, actor, subject, time."""

Received = Annotated[Delivered, Context("delivered")]
"""Parameter of a handler that needs the stored message as it came."""


class Envelope(BaseMiddleware):
    """Reads the envelope. Raises PoisonMessage for a message that is no CloudEvent."""

    async def consume_scope(self, call_next: Callable[[Any], Awaitable[Any]], msg: Any) -> Any:
        plan: StagePlan = self.context.get_local("plan")
        if not plan.cloud_events:
            return await call_next(msg)
        delivered: Delivered = self.context.get_local("delivered")
        with self.context.scope("command", _read(delivered)):
            return await call_next(msg)


def _read(delivered: Delivered) -> Message:
    stored = delivered.message
    try:
        return Message.from_wire(
            stored.subject, stored.headers, stored.data, received_at=stored.time
        )
    except ValueError as error:
        raise PoisonMessage(f"The message cannot be read: {error}") from error
