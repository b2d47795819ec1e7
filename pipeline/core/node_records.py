"""How one agent reads and writes the records of the containers on its node."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from pipeline.adapters.store import EVERY_ORG
from pipeline.core import records
from pipeline.core.containers import announce
from pipeline.core.leases import Leases
from pipeline.core.replacing import place_anew
from pipeline.errors import Fenced
from pipeline.rules.observation import OVER
from schemas.container import Container, Desired
from schemas.image import Progress
from schemas.states import ContainerStatus as Status

if TYPE_CHECKING:
    from pipeline.adapters.store import Store
    from pipeline.core.outbox import Outbox

Follower = Callable[[Container], None]
"""Told of every record as it is now: a restart timer, a probe."""


class NodeRecords:
    """Guarded writes only: whoever loses a race reloads and looks again."""

    def __init__(
        self, store: Store, outbox: Outbox, leases: Leases, *, node: str, clock: records.Clock
    ) -> None:
        self.node = node
        self.clock = clock
        self.followers: list[Follower] = []
        self._store = store
        self._outbox = outbox
        self._leases = leases

    async def load(self, uuid: str) -> Container:
        """Raises NotFound."""
        return await self._store.get(Container, uuid, org=EVERY_ORG)

    async def mine(self, uuid: str, *, fence: int | None = None) -> Container:
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

    async def here(self, seen: Collection[str]) -> list[Container]:
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

    async def move(
        self,
        container: Container,
        status: Status,
        kind: str,
        reason: str | None = None,
        values: dict[str, Any] | None = None,
        **facts: Any,
    ) -> Container:
        """Write a new state and announce it; leases are freed when the container is over."""
        values = values or {}
        at = self.clock()
        message = announce(
            container,
            kind,
            at=at,
            actor=self._actor,
            revision=container.revision + 1,
            status=status,
            reason=reason,
            **facts,
        )
        container = await self._store.change(
            container, values, at=at, status=status, reason=reason, messages=[message]
        )
        self.tell(container)
        await self._outbox.send(container)
        if status in OVER:
            await self._leases.release(container.uuid, container.fence, node=self.node)
        return container

    async def advance(self, container: Container, progress: Progress) -> Container:
        """Record how far a pull is. The caller sends at most one per percent."""
        facts = progress.model_dump()
        return await self.move(
            container,
            Status.PULLING,
            "pull.progressed",
            values={"progress": facts},
            progress=facts,
        )

    async def send_away(self, container: Container, reason: str) -> Container:
        """Have it placed anew. Its lease stays until `release`."""
        changed = await place_anew(
            self._store,
            self._outbox,
            container,
            at=self.clock(),
            actor=self._actor,
            reason=reason,
        )
        self.tell(changed)
        return changed

    async def release(self, container: Container) -> None:
        await self._leases.release(container.uuid, container.fence, node=self.node)

    def tell(self, container: Container) -> None:
        """Let the followers know a record that was read or written."""
        for follow in self.followers:
            follow(container)

    @property
    def _actor(self) -> str:
        return f"node:{self.node}"
