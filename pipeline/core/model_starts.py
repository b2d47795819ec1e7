"""Bringing a container of a model up until it answers, whoever needs it for whatever."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import Final

from pipeline import tasks
from pipeline.core import records
from pipeline.core.model_containers import ModelContainers, model_port
from pipeline.core.model_launches import (
    STARTS,
    UP,
    ModelLaunches,
    Moment,
    Report,
    Start,
    container_ids,
    has_exited,
    looks_s,
    refuse_failed,
)
from pipeline.core.model_status import StatusCheck, never_listened
from pipeline.errors import (
    CrashLoop,
    LaunchFailed,
    ModelRefused,
)
from schemas.access import Principal
from schemas.container import Container, Desired

log = logging.getLogger(__name__)

REMOVAL_S: Final = 30
"""A removal is recorded and carried out in any case; this long somebody waits for it."""


class ModelStarts:
    """Every step is found again from the containers' own records, so a start can be taken over."""

    def __init__(
        self, containers: ModelContainers, *, grace_s: float, clock: records.Clock
    ) -> None:
        """`grace_s`: how long a model that was asked to end may take before it is stopped."""
        self._containers = containers
        self._launches = ModelLaunches(containers)
        self._grace_s = grace_s
        self._clock = clock

    async def bring_up(self, start: Start, report: Report) -> Container:
        """A running container that has answered `GET /status` as it should.

        Raises the ModelRefused family, with `technical`, and what `report` raises. The containers
        stay until `clear`.
        """
        number = await self._number(start)
        while True:
            container = await self._launches.launched(start, number, report)
            began = await self._began(start, container)
            if container.status in UP and await self._is_ready(start, container, began, report):
                return container
            ended = await self._ended(start, container)
            technical = f"{_exit(ended)}\n{await self._log(start, ended)}"
            if number >= STARTS:
                raise CrashLoop(
                    f"The container was started {STARTS} times within {start.timeout_s:g} s and"
                    f" exited each time: {_exit(ended)}.",
                    technical=technical,
                )
            if self._remaining_s(start, began) <= 0:
                late = never_listened(model_port(start.spec), start.timeout_s)
                late.facts["technical"] = technical
                raise late
            await self._remove(start, [start.key(number)])
            number += 1

    async def wind_down(self, start: Start, beat: Callable[[], Awaitable[None]]) -> bool:
        """Ask the model to end, then stop and remove what is left. True when there was anything.

        `beat` is called several times a second and may raise.
        """
        container = await self.current(start)
        if container is None:
            return False
        if container.status in UP:
            refused = await self._containers.shut_down(container)
            if refused is not None:
                log.info("container %s did not agree to end: %s", container.uuid, refused)
            else:
                await self._let_end(container, beat)
        await self.clear(start)
        return True

    async def _let_end(self, container: Container, beat: Callable[[], Awaitable[None]]) -> None:
        loop, looks = asyncio.get_running_loop(), looks_s()
        stop_at = loop.time() + self._grace_s
        while container.status in UP and loop.time() < stop_at:
            await beat()
            await asyncio.sleep(next(looks))
            container = await self._launches.reread(container)

    async def clear(self, start: Start, *, wait_s: float = REMOVAL_S) -> None:
        """Remove every container of the start; returns when they are gone, or `wait_s` are over."""
        await self._remove(start, start.keys, wait_s=wait_s)

    async def remove_stale(self, caller: Principal, id: str | None) -> None:
        """What a killed worker left of a start that nobody wants any more. Idempotent."""
        for uuid in container_ids(caller.org, id) if id else ():
            await self._containers.remove(caller, uuid)

    async def current(self, start: Start) -> Container | None:
        """The newest container of the start."""
        for key in reversed(start.keys):
            container = await self._containers.read(start.caller.org, key)
            if container is not None:
                return container
        return None

    async def _number(self, start: Start) -> int:
        """Which container it is the turn of."""
        for number in range(STARTS, 0, -1):
            container = await self._containers.read(start.caller.org, start.key(number))
            if container is not None:
                is_removed = container.desired is Desired.DELETED
                return min(number + is_removed, STARTS)
        return 1

    async def _began(self, start: Start, container: Container) -> datetime:
        first = await self._containers.read(start.caller.org, start.key(1))
        return (first and first.started_at) or container.started_at or self._clock()

    def _remaining_s(self, start: Start, began: datetime) -> float:
        return start.timeout_s - (self._clock() - began).total_seconds()

    # --- until it answers

    async def _is_ready(
        self, start: Start, container: Container, began: datetime, report: Report
    ) -> bool:
        """False when it ended before it answered."""
        check = self._check(start, container)
        remaining_s = partial(self._remaining_s, start, began)
        asking = asyncio.create_task(check.until_ready(remaining_s), name="ask for status")
        looks = looks_s()
        try:
            while not asking.done():
                waited = 1 - max(remaining_s(), 0) / start.timeout_s
                await report(Moment(container, waited))
                await asyncio.wait({asking}, timeout=next(looks))
                container = await self._launches.reread(container)
                if not asking.done() and container.status not in UP:
                    return False
            await asking
        except ModelRefused as error:
            error.facts["technical"] = f"{check.answered}\n{await self._log(start, container)}"
            raise
        finally:
            await tasks.end(asking)
        return True

    def _check(self, start: Start, container: Container) -> StatusCheck:
        ask = partial(self._containers.status, container)
        return StatusCheck(
            lambda limits: ask(limits=limits),
            call=self._containers.dialect(container).status_call,
            port=model_port(start.spec),
            timeout_s=start.timeout_s,
        )

    # --- when it ended

    async def _ended(self, start: Start, container: Container) -> Container:
        """With its exit code, which may be recorded a moment later."""
        loop, looks = asyncio.get_running_loop(), looks_s()
        give_up_at = loop.time() + REMOVAL_S
        while not has_exited(container):
            refuse_failed(start, container)
            if loop.time() > give_up_at:
                reason = container.reason or f"it is {container.status}"
                raise LaunchFailed(f"The container did not stay: {reason}.", technical=reason)
            await asyncio.sleep(next(looks))
            container = await self._launches.reread(container)
        return container

    async def _log(self, start: Start, container: Container) -> str:
        return await self._containers.last_lines(start.caller, container)

    async def _remove(self, start: Start, keys: list[str], *, wait_s: float = REMOVAL_S) -> None:
        ids = [records.id_for(start.caller.org, Container.resource, key) for key in keys]
        loop, looks = asyncio.get_running_loop(), looks_s()
        give_up_at = loop.time() + wait_s
        while True:
            gone = [await self._containers.remove(start.caller, uuid) for uuid in ids]
            if all(gone) or loop.time() > give_up_at:
                return
            await asyncio.sleep(next(looks))


def _exit(container: Container) -> str:
    """Code, and reason where there is more to say than the code."""
    reason = container.reason or ""
    code = f"exit code {container.exit_code}"
    return code if not reason or reason.startswith("exited") else f"{code}, {reason}"
