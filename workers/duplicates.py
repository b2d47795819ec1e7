"""A message that comes again while this process still works on it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from faststream import BaseMiddleware

from pipeline.adapters.bus import Delivered
from pipeline.adapters.bus_delivered import Key
from workers.outcome import Outcome

log = logging.getLogger(__name__)

Running = dict[Key, Delivered]


class Duplicates(BaseMiddleware):
    """Lets the first delivery go on, through the newer one, and drops the second.

    That happens after a connection was lost for longer than the ack wait.
    """

    def __init__(self, msg: Any, /, *, running: Running, context: Any) -> None:
        super().__init__(msg, context=context)
        self._running = running

    async def consume_scope(self, call_next: Callable[[Any], Awaitable[Any]], msg: Any) -> Any:
        delivered: Delivered = self.context.get_local("delivered")
        first = self._running.setdefault(delivered.key, delivered)
        if first is not delivered:
            log.info("%s came again while it is worked on", delivered.message.subject)
            first.raw = delivered.raw
            outcome: Outcome = self.context.get_local("outcome")
            outcome.name = "duplicate"
            return None
        try:
            return await call_next(msg)
        finally:
            del self._running[delivered.key]
