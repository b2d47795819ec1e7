"""Background tasks that end when they are told to."""

from __future__ import annotations

import asyncio
from typing import Any

AGAIN_S = 0.2


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel and wait until all have ended; what they raise is theirs alone.

    Cancels more than once: up to Python 3.11 `asyncio.wait_for`, which the NATS client uses for
    every request, swallows a cancellation that arrives together with the result.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN_S)
