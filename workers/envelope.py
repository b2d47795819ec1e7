"""The CloudEvent around the data of a message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from faststream import BaseMiddleware
from faststream._internal.context import Context as ContextField

from pipeline.adapters.bus import Delivered
from pipeline.errors import PoisonMessage
from pipeline.rules.topology import StagePlan
from schemas.message import Message


class Carried(ContextField):
    """FastStream's `Context`, without the hop through a thread that it costs per parameter."""

    async def use(self, /, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        return super().use(**kwargs)


Command = Annotated[Message, Carried("command")]
"""Parameter of a handler that needs more than the data: id, actor, subject, time."""
Received = Annotated[Delivered, Carried("delivered")]
"""Parameter of a handler that needs the stored message as it came."""
LastTry = Annotated[bool, Carried("last_try")]
"""Parameter of a handler that must settle its record instead of failing once more."""


class Envelope(BaseMiddleware):
    """Reads the envelope. Raises PoisonMessage for a message that is no CloudEvent."""

    async def consume_scope(self, call_next: Callable[[Any], Awaitable[Any]], msg: Any) -> Any:
        plan: StagePlan = self.context.get_local("plan")
        delivered: Delivered = self.context.get_local("delivered")
        command = _read(delivered) if plan.cloud_events else None
        last_try = delivered.attempt >= plan.max_deliver
        with self.context.scopes((("command", command), ("last_try", last_try))):
            return await call_next(msg)


def _read(delivered: Delivered) -> Message:
    stored = delivered.message
    try:
        return Message.from_wire(
            stored.subject, stored.headers, stored.data, received_at=stored.time
        )
    except ValueError as error:
        raise PoisonMessage(f"The message cannot be read: {error}") from error
