"""Bringing a container of a model up until it answers, whoever needs it for whatever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from pipeline import tasks
from pipeline.core import records
from pipeline.core.model_containers import ModelContainers, model_port
from pipeline.core.model_status import StatusCheck, never_listened
from pipeline.errors import (
    CannotPlace,
    CrashLoop,
    InsufficientResources,
    LaunchFailed,
    ModelRefused,
    NoCapacity,
)
from pipeline.rules import model_placement, model_requirements
from pipeline.rules.observation import OVER
from schemas.access import Principal
from schemas.container import Container, ContainerSpec, Desired
from schemas.image import Image
from schemas.states import ContainerStatus as Status

STARTS: Final = 3
"""A container that exits at once is given this many chances."""
LOOK_S: Final = 0.2
REMOVAL_S: Final = 30
"""A removal is recorded and carried out in any case; this long somebody waits for it."""
UP: Final = frozenset({Status.RUNNING, Status.UNHEALTHY})


@dataclass(frozen=True, slots=True)
class Start:
    """What to start, for whom, and how patiently. The same `id` means the same containers."""

    id: str
    caller: Principal
    image: Image
    spec: ContainerSpec
    requirement: int
    timeout_s: float
    """From the first start to a good status."""
    place_s: float
    """How long to wait for a node that is free."""

    def key(self, number: int) -> str:
        return f"{self.id}/{number}"

    @property
    def keys(self) -> list[str]:
        return [self.key(number) for number in range(1, STARTS + 1)]


@dataclass(frozen=True, slots=True)
class Moment:
    """How far a start is. `container` is None while no node is free."""

    container: Container | None
    waited: float | None = None
    """Share of the timeout that is over, once the container is asked for its status."""


Report = Callable[[Moment], Awaitable[None]]
"""Called several times a second; raises to give up."""


class ModelStarts:
    """Every step is found again from the containers' own records, so a start can be taken over."""

    def __init__(self, containers: ModelContainers, clock: records.Clock) -> None:
        self._containers = containers
        self._clock = clock

    async def bring_up(self, start: Start, report: Report) -> Container:
        """A running container that has answered `GET /status` as it should.

        Raises the ModelRefused family, with `technical`, and what `report` raises. The containers
        stay until `clear`.
        """
        number = await self._number(start)
        while True:
            container = await self._launched(start, number, report)
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

    async def clear(self, start: Start, *, wait_s: float = REMOVAL_S) -> None:
        """Remove every container of the start; returns when they are gone, or `wait_s` are over."""
        await self._remove(start, start.keys, wait_s=wait_s)

    async def remove_stale(self, caller: Principal, id: str | None) -> None:
        """What a killed worker left of a start that nobody wants any more. Idempotent."""
        for number in range(1, STARTS + 1):
            key = f"{id}/{number}"
            if id is not None and await self._containers.read(caller.org, key) is not None:
                uuid = records.id_for(caller.org, Container.resource, key)
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

    # --- until it runs

    async def _launched(self, start: Start, number: int, report: Report) -> Container:
        """Once it runs, or has run and ended."""
        container = await self._containers.read(start.caller.org, start.key(number))
        if container is None:
            await self._place(start, report)
            container = await self._containers.run(start.caller, start.spec, start.key(number))
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + start.place_s
        while container.status not in UP and not _has_exited(container):
            await report(Moment(container))
            self._refuse_failed(start, container)
            if container.status is not Status.REQUESTED:
                give_up_at = loop.time() + start.place_s
            elif loop.time() > give_up_at:
                raise _unplaced(start, container)
            await asyncio.sleep(LOOK_S)
            container = await self._reread(container)
        return container

    async def _place(self, start: Start, report: Report) -> None:
        """Wait until some node is free. What can never fit is refused before anything is pulled."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + start.place_s
        requirement = model_requirements.find(start.requirement)
        while True:
            try:
                return await self._containers.check_place(start.image, start.spec)
            except CannotPlace as error:
                if not isinstance(error, NoCapacity) or loop.time() > give_up_at:
                    raise model_placement.refusal(
                        error, requirement, start.image.platform
                    ) from error
            await report(Moment(None))
            await asyncio.sleep(LOOK_S)

    def _refuse_failed(self, start: Start, container: Container) -> None:
        if container.desired is Desired.DELETED or container.status is Status.DELETED:
            reason = "somebody removed it"
        elif container.status in OVER:
            reason = container.reason or "the engine gave no reason"
        else:
            return
        if container.node is None and container.refusals:
            raise _unplaced(start, container)
        raise LaunchFailed(f"The container could not be started: {reason}.", technical=reason)

    async def _reread(self, container: Container) -> Container:
        return await self._containers.find(container.org, container.uuid) or container

    # --- until it answers

    async def _is_ready(
        self, start: Start, container: Container, began: datetime, report: Report
    ) -> bool:
        """False when it ended before it answered."""
        check = self._check(start, container)
        remaining_s = partial(self._remaining_s, start, began)
        asking = asyncio.create_task(check.until_ready(remaining_s), name="ask for status")
        try:
            while not asking.done():
                waited = 1 - max(remaining_s(), 0) / start.timeout_s
                await report(Moment(container, waited))
                await asyncio.wait({asking}, timeout=LOOK_S)
                container = await self._reread(container)
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
        ask = partial(self._containers.ask, container, "GET", "/status")
        return StatusCheck(
            lambda limits: ask(limits=limits),
            port=model_port(start.spec),
            timeout_s=start.timeout_s,
        )

    # --- when it ended

    async def _ended(self, start: Start, container: Container) -> Container:
        """With its exit code, which may be recorded a moment later."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + REMOVAL_S
        while not _has_exited(container):
            self._refuse_failed(start, container)
            if loop.time() > give_up_at:
                reason = container.reason or f"it is {container.status}"
                raise LaunchFailed(f"The container did not stay: {reason}.", technical=reason)
            await asyncio.sleep(LOOK_S)
            container = await self._reread(container)
        return container

    async def _log(self, start: Start, container: Container) -> str:
        return await self._containers.last_lines(start.caller, container)

    async def _remove(self, start: Start, keys: list[str], *, wait_s: float = REMOVAL_S) -> None:
        ids = [records.id_for(start.caller.org, Container.resource, key) for key in keys]
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + wait_s
        while True:
            gone = [await self._containers.remove(start.caller, uuid) for uuid in ids]
            if all(gone) or loop.time() > give_up_at:
                return
            await asyncio.sleep(LOOK_S)


def _has_exited(container: Container) -> bool:
    return container.status in OVER and container.exit_code is not None


def _exit(container: Container) -> str:
    """Code, and reason where there is more to say than the code."""
    reason = container.reason or ""
    code = f"exit code {container.exit_code}"
    return code if not reason or reason.startswith("exited") else f"{code}, {reason}"


def _unplaced(start: Start, container: Container) -> InsufficientResources:
    requirement = model_requirements.find(start.requirement)
    lines = [f"{name}: {'; '.join(why)}" for name, why in sorted(container.refusals.items())]
    technical = "\n".join(lines) or container.reason or "no node took it"
    return InsufficientResources(
        f"No node had what was needed in time: {requirement}.", technical=technical
    )
