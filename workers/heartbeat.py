"""Telling the broker that long work goes on, so that nobody else begins it, too."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from faststream import BaseMiddleware

from pipeline import tasks
from pipeline.adapters.bus import Delivered
from pipeline.errors import YardError
from pipeline.rules.topology import StagePlan

log = logging.getLogger(__name__)


class Heartbeat(BaseMiddleware):
    """A sign of life every third of the ack wait. Short work pays for a timer only."""

    async def consume_scope(self, call_next: Callable[[Any], Awaitable[Any]], msg: Any) -> Any:
        plan: StagePlan = self.context.get_local("plan")
        delivered: Delivered = self.context.get_local("delivered")
        beating: list[asyncio.Task[None]] = []

        def begin() -> None:
            beating.append(asyncio.create_task(_beat(delivered, plan.ack_wait_s / 3)))

        timer = asyncio.get_running_loop().call_later(plan.ack_wait_s / 3, begin)
        try:
            return await call_next(msg)
        finally:
            timer.cancel()
            await tasks.end(*beating)


async def _beat(delivered: Delivered, interval_s: float) -> None:
    while True:
        try:
            await delivered.say_alive()
        except YardError as error:
            log.warning("no sign of life could be given: %s", error.message)
        await asyncio.sleep(interval_s)
