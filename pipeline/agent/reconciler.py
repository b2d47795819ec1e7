"""The records of the containers on one node and what its engine has: compared, brought in line.

Whoever writes such a record checks its fencing number first: `NodeContainers.owned`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Final

from pipeline.adapters.store.store import EVERY_ORG
from pipeline.concurrency import KeyedLocks
from pipeline.containers import engine_plan, observation
from pipeline.containers.changes import moved, place_again
from pipeline.containers.observation import OVER
from pipeline.errors import Fenced, ForeignContainer, NotFound
from pipeline.nodes.leases import Leases
from pipeline.ports import Engine, EngineContainer
from pipeline.records.kernel import Change, Decide, Records
from pipeline.settings import Settings
from schemas.container import Container, Desired
from schemas.node import Node
from schemas.states import ContainerStatus as Status

Follower = Callable[[Container], None]
"""Told of every record as it is now: a restart timer, a probe."""
SIGNAL_S: Final = 5
"""A program that ends within its grace and this long after a signal was ended by it."""


class NodeContainers:
    """Guarded writes only: whoever loses a race reloads and looks again."""

    def __init__(self, records: Records, leases: Leases, *, node: str) -> None:
        self.node = node
        self.clock = records.clock
        self.followers: list[Follower] = []
        self._records = records
        self._store = records.store
        self._leases = leases
        self._actor = f"node:{node}"

    async def load(self, uuid: str) -> Container:
        """Raises NotFound."""
        return await self._store.get(Container, uuid, org=EVERY_ORG)

    async def owned(self, uuid: str, *, fence: int | None = None) -> Container:
        """One whose newest launch, number `fence` when given, is on this node.

        Raises Fenced otherwise, and NotFound. Whoever writes a record of a container asks here
        first: an agent that was thought dead must not write about a launch elsewhere.
        """
        container = await self.load(uuid)
        if container.node != self.node or (fence is not None and fence < container.fence):
            raise Fenced(
                f"What was asked of container {uuid} is outdated: its newest launch is"
                f" {container.fence}, on node {container.node}."
            )
        return container

    async def on_this_node(self, seen: Collection[str]) -> list[Container]:
        """Of the containers whose newest launch is on this node: those that are not over, those
        whose removal is not done, and, in whatever state, those that the engine has: `seen`."""
        ended = {"$in": [Status.STOPPED.value, Status.FAILED.value]}
        living = {"$nin": [status.value for status in OVER]}
        where = {
            "node": self.node,
            "$or": [
                {"status": living},
                {"status": ended, "desired": Desired.DELETED.value},
                {"_id": {"$in": list(seen)}, "status": ended},
            ],
        }
        return await self._store.find(Container, org=EVERY_ORG, where=where, sort=[])

    async def commit(self, container: Container, change: Change) -> Container:
        """As `Records.commit`; tells the followers, and frees the lease of what is over."""
        return await self._known(await self._records.commit(container, change, actor=self._actor))

    async def amend(self, container: Container, decide: Decide[Container]) -> Container:
        """As `Records.amend`; else as `commit`."""
        return await self._known(await self._records.amend(container, decide, actor=self._actor))

    async def _known(self, container: Container) -> Container:
        for follow in self.followers:
            follow(container)
        if container.status in OVER:
            await self.release(container)
        return container

    async def note_in_use(self, ports: Collection[str]) -> None:
        """So that nobody who wants one is placed here; the next heartbeat knows it by itself."""
        update = {"$addToSet": {"ports_in_use": {"$each": list(ports)}}}
        await self._store.update(Node, self.node, org=EVERY_ORG, guard={}, update=update)

    async def release(self, container: Container) -> None:
        await self._leases.release(container.uuid, container.fence, node=self.node)


async def _nothing(engine_id: str) -> None:
    return None


class EngineReconciler:
    """What is done about one container is done one after the other: inside `locked`.

    Different containers are handled side by side.
    """

    def __init__(self, engine: Engine, containers: NodeContainers, settings: Settings) -> None:
        self.engine = engine
        self.containers = containers
        self.node = engine_plan.NodeIdentity(settings.installation, containers.node)
        self.rules = observation.RestartRules(
            first_s=settings.restart_backoff_s,
            max_s=settings.restart_backoff_max_s,
            reset_s=settings.restart_reset_s,
        )
        self._grace_s = settings.stop_grace_s
        self._locks = KeyedLocks()
        self.before_removal: Callable[[str], Awaitable[None]] = _nothing
        """Called with the engine's id of what has stopped and is to be removed."""
        self.has_compared = False
        """This process has compared everything once: from then on it sees what is removed."""

    def locked(self, uuid: str) -> AbstractAsyncContextManager[None]:
        return self._locks.of(uuid)

    def is_busy(self, uuid: str) -> bool:
        """Somebody is at it, perhaps for as long as a pull takes, and will say how it ended."""
        return self._locks.is_locked(uuid)

    async def inspect(self, uuid: str, *, is_renamed: bool = True) -> EngineContainer | None:
        """What the engine has of it. Raises ForeignContainer.

        `is_renamed`: it may have a name of its owner's choice.
        """
        seen = await self.engine.inspect(engine_plan.name_of(uuid, self.node.uuid))
        if seen is None and is_renamed:
            marked = {**self.node.labels, engine_plan.CONTAINER: uuid}
            return next(iter(await self.engine.list(marked)), None)
        if seen is not None and not self.node.owns(seen):
            raise ForeignContainer(f"The name {seen.name} is held by a container of somebody else.")
        return seen

    # --- inside `locked` ----------------------------------------------------------------------

    async def find(self, container: Container) -> EngineContainer | None:
        """Its container on the engine, perhaps of an older launch. Raises ForeignContainer,
        Fenced."""
        is_renamed = container.spec.engine_name is not None
        seen = await self.inspect(container.uuid, is_renamed=is_renamed)
        if seen is not None and engine_plan.fence_of(seen) > container.fence:
            raise Fenced(f"A newer launch of {container.uuid} is on this engine already.")
        return seen

    async def find_current(self, container: Container) -> EngineContainer | None:
        """As `find`, of the newest launch only: what an older one left says nothing about it."""
        seen = await self.find(container)
        return seen if seen is not None and engine_plan.fence_of(seen) == container.fence else None

    async def stop(self, seen: EngineContainer) -> None:
        """Idempotent."""
        if seen.running:
            await self.engine.stop(seen.id, grace_s=self._grace_of(seen))

    async def discard(self, seen: EngineContainer) -> None:
        """Stop and remove. Idempotent."""
        await self.stop(seen)
        await self.before_removal(seen.id)
        await self.engine.remove(seen.id)

    async def reconcile(self, uuid: str) -> Container | None:
        """Make the record say what the engine shows, and tell the followers.

        None when there is no such record, or its newest launch is on another node.
        """
        try:
            container = await self.containers.owned(uuid)
        except (NotFound, Fenced):
            return None
        before = container
        container = await self.containers.amend(before, self._observed)
        if container.node is None and before.node is not None:
            await self.containers.release(before)
        return container if container.node == self.node.uuid else None

    async def _observed(self, container: Container, now: datetime) -> Change | None:
        if container.node != self.node.uuid:
            return None  # placed elsewhere while we were looking
        seen = await self.find_current(container)
        if seen is None and not self.has_compared and observation.is_up(container):
            # Nobody looked when it was removed: with a stack that went down, or a new engine.
            return place_again("placed anew: nothing of it was left when its agent came back")
        by_itself = await self._ended_by_itself(container, seen)
        move = observation.due_move(container, seen, now=now, rules=self.rules, by_itself=by_itself)
        return None if move is None else moved(*move)

    def _grace_of(self, seen: EngineContainer) -> int:
        return self._grace_s if seen.stop_grace_s is None else seen.stop_grace_s

    async def _ended_by_itself(self, container: Container, seen: EngineContainer | None) -> bool:
        if seen is None or not observation.is_unasked_end(container, seen):
            return True
        if seen.started_at is None:
            return True
        told = await self.engine.recall(seen.id, since=seen.started_at)
        return observation.ended_by_itself(told, within_s=self._grace_of(seen) + SIGNAL_S)

    async def evict(self, container: Container, why: str) -> Container:
        """Stop it here and have it placed anew.

        The record moves between stop and removal: whatever ends this halfway, nothing runs twice,
        and what is left on the engine is found to be outdated.
        """
        seen = await self.find(container)
        if seen is not None:
            await self.stop(seen)
            await self.before_removal(seen.id)
        placed_anew = place_again(f"placed anew: {why}")
        evicted = await self.containers.commit(container, placed_anew)
        if seen is not None:
            await self.engine.remove(seen.id)
        await self.containers.release(container)
        return evicted
