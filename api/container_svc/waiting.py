"""Waits for what was asked for: bounded, and whoever has waited long enough learns how to ask."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from api.http.answers import waited
from pipeline.bootstrap.control_plane import Services
from pipeline.errors import Timeout
from pipeline.events.hub import EventHub
from schemas.access import Principal
from schemas.base import StatefulRecord

R = TypeVar("R", bound=StatefulRecord)

RUN_S: Final = 280.0
CHANGE_S: Final = 30.0


class Waiting:
    """Of one request: all its waits together take `wait_s`."""

    def __init__(
        self, services: Services, hub: EventHub, caller: Principal, *, wait_s: float
    ) -> None:
        self.services = services
        self.caller = caller
        self._hub = hub
        most_s = services.settings.wait_max_s
        self._end = asyncio.get_running_loop().time() + min(wait_s, most_s)

    @property
    def left_s(self) -> float:
        return max(0.0, self._end - asyncio.get_running_loop().time())

    async def settled(
        self,
        kind: type[R],
        uuid: str,
        *,
        ask: Callable[[], Awaitable[R]],
        load: Callable[[], Awaitable[R]],
        is_settled: Callable[[R], bool],
        wait_s: float | None = None,
    ) -> R:
        """As `waited`, for `wait_s` or as long as there is time."""
        left_s = self.left_s if wait_s is None else min(wait_s, self.left_s)
        return await waited(
            self._hub,
            self.caller,
            kind,
            uuid,
            ask=ask,
            load=load,
            is_settled=is_settled,
            wait_s=left_s,
        )

    def over(self, kind: str, uuid: str) -> Timeout:
        """The error for what has not come to its end in time."""
        return Timeout(
            "There is no outcome yet, and the work goes on: ask for the operation.",
            operationId=f"{kind}-{uuid}",
        )
