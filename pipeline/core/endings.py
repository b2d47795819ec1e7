"""What an agent does to end a container on its engine, in whatever state it is."""

from __future__ import annotations

from pipeline.core.counterparts import Counterparts
from pipeline.core.pulling import Pulling
from pipeline.ports import EngineContainer
from pipeline.rules import launching
from schemas.commands import NodeOrder
from schemas.container import Container, Desired
from schemas.states import ContainerStatus as Status


class Endings:
    """The record says what its owner wants; an order is only a reason to look at it."""

    def __init__(self, counterparts: Counterparts, pulling: Pulling) -> None:
        self._counterparts = counterparts
        self._records = counterparts.records
        self._pulling = pulling

    async def stop(self, order: NodeOrder) -> None:
        """Idempotent. Raises Fenced, EngineUnavailable."""
        await self._end(order, Desired.STOPPED)

    async def remove(self, order: NodeOrder) -> None:
        """Idempotent. Raises Fenced, EngineUnavailable."""
        await self._end(order, Desired.DELETED)

    async def enforce(self, uuid: str) -> None:
        """Carry out a stop or removal whose order never arrived."""
        container = await self._records.mine(uuid)
        order = NodeOrder(container=uuid, org=container.org, fence=container.fence)
        await self._end(order, container.desired)

    async def discard(self, seen: EngineContainer) -> None:
        """Remove a container of ours that no record wants on this node any more."""
        async with self._counterparts.alone(launching.container_of(seen.labels) or seen.id):
            await self._counterparts.discard(seen)

    async def _end(self, order: NodeOrder, desired: Desired) -> None:
        if not _calls_for(await self._current(order), desired):
            return
        # Whoever launches it holds it for as long as the pull takes.
        self._pulling.interrupt(order.container)
        async with self._counterparts.alone(order.container):
            container = await self._current(order)
            if not _calls_for(container, desired):
                return
            seen = await self._counterparts.find(container)
            if seen is not None and desired is Desired.DELETED:
                await self._counterparts.discard(seen)
            elif seen is not None:
                await self._counterparts.halt(seen)
            await self._counterparts.settle(container.uuid)

    async def _current(self, order: NodeOrder) -> Container:
        return await self._records.mine(order.container, fence=order.fence)


def _calls_for(container: Container, desired: Desired) -> bool:
    """A stop that became a removal is left to the order for the removal, and so on."""
    return container.desired is desired is not Desired.RUNNING and (
        container.status is not Status.DELETED
    )
