"""What containers use of their nodes, as their agents measured last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from pydantic import Field

from pipeline.adapters.store.readings import Readings, Source
from pipeline.adapters.store.store import Store
from pipeline.containers.service import Containers
from pipeline.errors import Conflict
from pipeline.records.queries import Page, page
from schemas.access import Principal
from schemas.base import Shape
from schemas.container import Container
from schemas.states import ContainerStatus as Status

UP: Final = (Status.RUNNING, Status.UNHEALTHY)
WITHIN: Final = timedelta(minutes=3)
"""Older figures are not told: agents measure at least once a minute."""


class Use(Shape):
    """Of one container at one moment. None is not known."""

    cpus: float | None = None
    """CPUs that it kept busy since the measurement before: 0.5 is half of one."""
    memory_bytes: int | None = None
    """Without files that are merely cached."""
    memory_limit_bytes: int | None = None
    """Its own, or what the machine has."""
    network_received_bytes: int | None = None
    """Since it started, as `network_sent_bytes`."""
    network_sent_bytes: int | None = None
    gpu_percent: float | None = None
    """Time in which its GPUs were busy, on average."""
    gpu_memory_percent: float | None = None


class ContainerUse(Use):
    container: str
    """Its uuid."""
    name: str
    node: str
    node_name: str | None
    gpus: list[str] = Field(default_factory=list)
    """uuids."""
    age_s: float | None = None
    """Since it was measured."""


class Usage:
    """Callers see their own organisation's containers. Every call may raise StoreUnavailable."""

    def __init__(self, store: Store, containers: Containers) -> None:
        self._store = store
        self._readings = Readings(store)
        self._containers = containers

    async def get(self, caller: Principal, uuid: str) -> ContainerUse:
        """Raises NotFound, and Conflict for one that does not run."""
        container = await self._containers.get(caller, uuid)
        if container.status not in UP:
            raise Conflict(f"The container is {container.status}: it uses nothing.")
        return (await self._used([container]))[0]

    async def list(
        self, caller: Principal, *, limit: int = 50, cursor: str | None = None
    ) -> Page[ContainerUse]:
        """Of those that run, newest first. Raises InvalidInput."""
        where = {"status": {"$in": [status.value for status in UP]}}
        found = await page(
            self._store, Container, org=caller.org, where=where, limit=limit, cursor=cursor
        )
        return Page([*await self._used(found.items)], found.next)

    async def _used(self, containers: Sequence[Container]) -> Sequence[ContainerUse]:
        nodes = sorted({each.node for each in containers if each.node})
        told = await self._readings.recent(Source.CONTAINERS, WITHIN, nodes) if nodes else []
        figures = {
            uuid: {**measured, "age_s": reading.age_s}
            for reading in told
            for uuid, measured in reading.figures.items()
        }
        return [_use(each, figures.get(each.uuid, {})) for each in containers]


def _use(container: Container, figures: Mapping[str, Any]) -> ContainerUse:
    return ContainerUse(
        container=container.uuid,
        name=container.name,
        node=container.node or "",
        node_name=container.node_name,
        gpus=container.gpus,
        **figures,
    )
