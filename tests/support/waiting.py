"""Waiting for something to become true, with a deadline."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable

from pipeline.stack.processes import probes

DEADLINE_S = 15


async def eventually(
    condition: Callable[[], bool | Awaitable[bool]], *, timeout_s: float = DEADLINE_S
) -> None:
    """Raises AssertionError when it is still false at the deadline."""

    async def holds() -> bool:
        answer = condition()
        return await answer if inspect.isawaitable(answer) else answer

    assert await probes.until(holds, timeout_s=timeout_s), f"not within {timeout_s} s"
