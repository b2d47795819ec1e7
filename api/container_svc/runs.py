"""Run: whatever there is of a name, afterwards it runs as it was asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from api.container_svc import images, views
from api.container_svc.answers import unsuccessful
from api.container_svc.run_request import RunRequest, container_spec, names_of, spec_hash
from api.container_svc.waiting import Waiting
from pipeline.containers.observation import LAUNCHING, has_settled
from pipeline.errors import AlreadyExists, Conflict, NoCapacity, StaleRevision
from schemas.container import Container, ContainerSpec, Desired
from schemas.node import Node
from schemas.states import ContainerStatus as Status

UP: Final = views.RUNNING | {Status.RESTARTING}
BUSY_S: Final = 3.0
"""What a container that has just ended holds is free within this time."""
FORGET_S: Final = 10.0
"""Within which its node removes what came to nothing."""


class Run:
    """One request. Those of one name take turns: the store lets one of them win."""

    def __init__(self, waiting: Waiting, wanted: RunRequest, node: Node | None) -> None:
        self._waiting = waiting
        self._wanted = wanted
        self._node = node
        self._names = names_of(wanted)
        self._hash = spec_hash(wanted)
        self._containers = waiting.services.containers.service
        self._finder = waiting.services.containers.finder

    async def answer(self) -> dict[str, Any]:
        """The body. Raises what stood in the way, and Timeout."""
        while True:
            try:
                container, started = await self._attempt()
            except (AlreadyExists, StaleRevision):
                continue
            if container is not None:
                return _answer(container, started=started)

    async def _attempt(self) -> tuple[Container | None, bool]:
        """What runs and whether it was started here; None to look again."""
        holder = await self._holder()
        if holder is None:
            return await self._started(self._fresh), True
        self._require_here(holder)
        is_same = holder.spec_hash == self._hash
        if holder.desired is Desired.DELETED:
            await self._until(holder, lambda seen: seen.status is Status.DELETED)
            return None, False
        if holder.status in LAUNCHING or holder.replaces is not None:
            seen = await self._outcome(holder)
            self._require_success(seen)
            return (seen if is_same else None), False
        if is_same and holder.status in UP:
            return holder, False
        if is_same:
            return await self._started(partial(self._again, holder)), True
        if holder.status is Status.LOST:
            await self._containers.delete(self._waiting.caller, holder.uuid)
            return None, False
        return await self._started(partial(self._instead, holder)), True

    async def _holder(self) -> Container | None:
        """Raises Conflict where the names are those of several."""
        found = await self._finder.called(self._waiting.caller, self._names)
        by_uuid = {each.uuid: each for each in found}
        # One that is to replace another is that one to its callers, and the newer of the two.
        for each in found:
            if each.replaces is not None:
                by_uuid.pop(each.replaces, None)
        if len(by_uuid) > 1:
            held = ", ".join(sorted(each.name for each in by_uuid.values()))
            raise Conflict(f"Several containers have these names: {held}. Name one of them.")
        return next(iter(by_uuid.values()), None)

    def _require_here(self, holder: Container) -> None:
        if self._node is not None and holder.node not in (None, self._node.uuid):
            raise Conflict(
                f"The container {holder.name} is on the node {holder.node_name}: remove it there"
                " first, or leave nodeId out."
            )

    async def _fresh(self) -> Container:
        return await self._containers.run(
            self._waiting.caller, await self._spec(), spec_hash=self._hash
        )

    async def _again(self, holder: Container) -> Container:
        return await self._containers.start(
            self._waiting.caller, holder.uuid, revision=holder.revision
        )

    async def _instead(self, holder: Container) -> Container:
        return await self._containers.replace(
            self._waiting.caller, holder.uuid, await self._spec(), spec_hash=self._hash
        )

    async def _spec(self) -> ContainerSpec:
        image = await images.ready(self._waiting, self._wanted, self._node)
        node = None if self._node is None else self._node.uuid
        return container_spec(self._wanted, image=image.uuid, node=node)

    async def _started(self, ask: Callable[[], Awaitable[Container]]) -> Container:
        """Nothing is left of what was new and never ran."""
        asked = await ask()
        is_known = asked.fence > 0
        try:
            seen = await self._outcome(asked)
        except NoCapacity:
            if is_known:
                await self._containers.stop(self._waiting.caller, asked.uuid)
            else:
                await self._forget(asked)
            raise
        if seen.failure is not None and not is_known:
            await self._forget(asked)
        self._require_success(seen)
        return seen

    async def _forget(self, asked: Container) -> None:
        await self._containers.delete(self._waiting.caller, asked.uuid)
        await self._until(asked, lambda seen: seen.status is Status.DELETED, wait_s=FORGET_S)

    async def _outcome(self, asked: Container) -> Container:
        """Raises NoCapacity for one that waits for room, and Timeout."""
        seen = await self._until(asked, lambda each: has_settled(each) or _is_waiting(each))
        if _is_waiting(seen):
            seen = await self._until(seen, has_settled, wait_s=BUSY_S)
        if _is_waiting(seen):
            raise NoCapacity(_why(seen))
        return seen

    async def _until(
        self,
        container: Container,
        is_settled: Callable[[Container], bool],
        wait_s: float | None = None,
    ) -> Container:
        async def load() -> Container:
            seen = await self._finder.recall(self._waiting.caller, container.uuid)
            return container if seen is None else seen

        seen = await self._waiting.settled(
            Container, container.uuid, ask=load, load=load, is_settled=is_settled, wait_s=wait_s
        )
        if not self._waiting.left_s and not is_settled(seen):
            raise self._waiting.over("run", container.uuid)
        return seen

    def _require_success(self, seen: Container) -> None:
        if seen.failure is not None:
            raise unsuccessful(seen.failure, _why(seen))
        if seen.status is Status.DELETED or seen.desired is Desired.DELETED:
            raise Conflict(f"The container {seen.name} was removed before it ran.")


def _why(container: Container) -> str:
    """With what each node says."""
    refusals = sorted(container.refusals.items())
    told = [f"{node}: {', '.join(reasons)}" for node, reasons in refusals]
    return " ".join([container.reason or "It could not be started.", "; ".join(told)]).strip()


def _is_waiting(container: Container) -> bool:
    return container.status is Status.REQUESTED and container.queue_position is not None


def _answer(container: Container, *, started: bool) -> dict[str, Any]:
    return {
        "started": started,
        "ports": views.ports(container),
        "bindings": views.bindings(container),
        "id": container.engine_id or "",
        "nodeId": container.node or "",
        "hash": container.spec_hash,
    }
