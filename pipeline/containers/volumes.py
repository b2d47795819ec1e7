"""Volumes: what containers keep on their nodes, and how it ends: on demand, and there alone.

A launch makes the record of a volume before the engine's own volume. Its end is a mark in the
record, upon which the agent of its node removes it as soon as no container has it any more.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import datetime
from typing import Final

from pipeline import topology
from pipeline.adapters.store.store import Store
from pipeline.errors import AlreadyExists, Conflict, NotFound, Overloaded
from pipeline.records.kernel import ATTEMPTS, Change, Decide, Records, living
from pipeline.records.messages import event
from pipeline.records.queries import Page, page
from schemas.access import Principal
from schemas.commands import NodeOrder
from schemas.container import Container, Desired, Volume
from schemas.message import Message
from schemas.states import ContainerStatus, VolumeStatus

log = logging.getLogger(__name__)

SWEEP: Final = "sweep-volumes"
"""Verb of the order to a node to look for volumes whose end was asked for."""


async def kept(
    store: Store, container: Container, paths: Collection[str] | None = None
) -> list[Volume]:
    """What the name of a container keeps, wherever that is: all of it, or at these paths."""
    where = {"name": container.name, "status": VolumeStatus.READY.value}
    at = {} if paths is None else {"path": {"$in": [*paths]}}
    return await store.find(Volume, org=container.org, where=where | at, sort=())


class Volumes:
    """`claim` is for agents; everything else acts for the organisation of its caller."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._store = records.store

    async def claim(self, container: Container, path: str) -> Volume:
        """The volume that it gets at this path: a new one on its node, where there is none yet.

        Whoever is second gets that of the first, which may be on another node. Idempotent.
        """
        assert container.node is not None, "only a placed container is launched"
        for _ in range(ATTEMPTS):
            if known := await kept(self._store, container, [path]):
                given = await self._records.amend(known[0], _given_to(container))
                if given.status is VolumeStatus.READY:
                    return given
                continue
            volume = Volume(
                **self._records.initial(container.org),
                name=container.name,
                path=path,
                container=container.uuid,
                node=container.node,
                node_name=container.node_name or container.node,
            )
            try:
                return await self._records.insert(volume, [event("created")])
            except AlreadyExists:
                continue
        raise Overloaded(f"The volume {path} of {container.name} keeps changing: try again.")

    async def end_with(self, container: Container, *, actor: str | None) -> None:
        """Ask for the end of all that its name keeps, and note that this is done.

        What a newer container of the name was launched with already stays. Idempotent.
        """
        for volume in await kept(self._store, container):
            await self._end(volume, container, actor)

        def decide(current: Container, at: datetime) -> Change | None:
            return Change({"delete_volumes": False}) if current.delete_volumes else None

        await self._records.amend(container, decide, actor=actor)

    async def list(
        self, caller: Principal, *, limit: int = 50, cursor: str | None = None
    ) -> Page[Volume]:
        """Newest first, without those that are gone."""
        where = living(VolumeStatus.DELETED)
        return await page(
            self._store, Volume, org=caller.org, where=where, limit=limit, cursor=cursor
        )

    async def delete(self, caller: Principal, uuid: str) -> Volume:
        """Ask for its end. Idempotent. Raises NotFound, Conflict while its container is there."""

        async def decide(volume: Volume, at: datetime) -> Change | None:
            if volume.status is VolumeStatus.DELETED:
                raise NotFound(f"There is no volume {uuid}.")
            if (holder := await self._holder(volume)) is not None:
                raise Conflict(
                    f"The container {holder.name} has it: delete that first, or together with its"
                    " volumes."
                )
            return _ended(volume, caller.id)

        volume = await self._store.get(Volume, uuid, org=caller.org)
        return await self._records.amend(volume, decide, actor=caller.id)

    async def _end(self, volume: Volume, container: Container, actor: str | None) -> None:
        async def decide(volume: Volume, at: datetime) -> Change | None:
            holder = await self._holder(volume)
            if holder is not None and holder.uuid != container.uuid:
                log.info("volume %s of %s has a newer container", volume.path, volume.name)
                return None
            return _ended(volume, actor)

        await self._records.amend(volume, decide, actor=actor)

    async def _holder(self, volume: Volume) -> Container | None:
        """The container that was launched with it, unless that is to be deleted."""
        found = await self._store.find_by_id(Container, volume.container, org=volume.org)
        if found is None or found.status is ContainerStatus.DELETED:
            return None
        return None if found.desired is Desired.DELETED else found


def _given_to(container: Container) -> Decide[Volume]:
    def decide(volume: Volume, at: datetime) -> Change | None:
        is_new = volume.container != container.uuid and volume.status is VolumeStatus.READY
        return Change({"container": container.uuid}) if is_new else None

    return decide


def _ended(volume: Volume, actor: str | None) -> Change | None:
    if volume.status is not VolumeStatus.READY:
        return None
    reason = f"deletion requested by {actor}"
    return Change({}, VolumeStatus.DELETING, reason, [event("deleting"), _sweep])


def _sweep(volume: Volume, at: datetime, actor: str | None) -> Message:
    order = NodeOrder(container=volume.container, org=volume.org, fence=0)
    return Message(
        id=f"{volume.uuid}.{volume.revision}.node-{SWEEP}",
        subject=topology.node_order(volume.node, SWEEP),
        type=f"modelyard.node.{SWEEP}",
        time=at,
        actor=actor,
        data=order.model_dump(),
    )
