"""Getting a container of a model from nowhere to running, or to why it cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final

from pipeline.core import records
from pipeline.core.model_containers import ModelContainers
from pipeline.errors import CannotPlace, InsufficientResources, LaunchFailed, NoCapacity
from pipeline.rules import model_placement, model_requirements
from pipeline.rules.observation import OVER
from schemas.access import Principal
from schemas.container import Container, ContainerSpec, Desired
from schemas.image import Image
from schemas.states import ContainerStatus as Status

STARTS: Final = 3
"""A container that exits at once is given this many chances."""
FIRST_LOOK_S: Final = 0.03
LAST_LOOK_S: Final = 0.3
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


def container_ids(org: str, start: str) -> list[str]:
    """uuids that the containers of a start have, if they were made."""
    keys = (f"{start}/{number}" for number in range(1, STARTS + 1))
    return [records.id_for(org, Container.resource, key) for key in keys]


def looks_s() -> Iterator[float]:
    """Pauses between looks at a record: short at first, since most things happen soon."""
    pause_s = FIRST_LOOK_S
    while True:
        yield pause_s
        pause_s = min(pause_s * 1.3, LAST_LOOK_S)


class ModelLaunches:
    """Waits by looking at records several times a second: any process can take over."""

    def __init__(self, containers: ModelContainers) -> None:
        self._containers = containers

    async def launched(self, start: Start, number: int, report: Report) -> Container:
        """Once it runs, or has run and ended. Raises the ModelRefused family."""
        container = await self._containers.read(start.caller.org, start.key(number))
        if container is None:
            await self._place(start, report)
            container = await self._containers.run(start.caller, start.spec, start.key(number))
        loop, looks = asyncio.get_running_loop(), looks_s()
        give_up_at = loop.time() + start.place_s
        while container.status not in UP and not has_exited(container):
            await report(Moment(container))
            refuse_failed(start, container)
            if container.status is not Status.REQUESTED:
                give_up_at = loop.time() + start.place_s
            elif loop.time() > give_up_at:
                raise _unplaced(start, container)
            await asyncio.sleep(next(looks))
            container = await self.reread(container)
        return container

    async def _place(self, start: Start, report: Report) -> None:
        """Wait until some node is free. What can never fit is refused before anything is pulled."""
        loop, looks = asyncio.get_running_loop(), looks_s()
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
            await asyncio.sleep(next(looks))

    async def reread(self, container: Container) -> Container:
        return await self._containers.find(container.org, container.uuid) or container


def has_exited(container: Container) -> bool:
    """It ran, and ended by itself."""
    return container.status in OVER and container.exit_code is not None


def refuse_failed(start: Start, container: Container) -> None:
    """Raises LaunchFailed, or InsufficientResources, for a container that will not run."""
    if container.desired is Desired.DELETED or container.status is Status.DELETED:
        reason = "somebody removed it"
    elif container.status in OVER:
        reason = container.reason or "the engine gave no reason"
    else:
        return
    if container.node is None and container.refusals:
        raise _unplaced(start, container)
    raise LaunchFailed(f"The container could not be started: {reason}.", technical=reason)


def _unplaced(start: Start, container: Container) -> InsufficientResources:
    requirement = model_requirements.find(start.requirement)
    lines = [f"{name}: {'; '.join(why)}" for name, why in sorted(container.refusals.items())]
    technical = "\n".join(lines) or container.reason or "no node took it"
    return InsufficientResources(
        f"No node had what was needed in time: {requirement}.", technical=technical
    )
