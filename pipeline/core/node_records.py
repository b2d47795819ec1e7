"""How one agent writes the records of the containers on its node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.adapters.store import EVERY_ORG
from pipeline.core import records
from pipeline.core.containers import announce
from pipeline.core.leases import Leases
from pipeline.rules.observation import OVER
from schemas.container import Container
from schemas.image import Progress
from schemas.states import ContainerStatus as Status

if TYPE_CHECKING:
    from pipeline.adapters.store import Store
    from pipeline.core.outbox import Outbox


class NodeRecords:
    """Guarded writes only: whoever loses a race reloads and looks again."""

    def __init__(
        self, store: Store, outbox: Outbox, leases: Leases, *, node: str, clock: records.Clock
    ) -> None:
        self.node = node
        self.clock = clock
        self._store = store
        self._outbox = outbox
        self._leases = leases

    async def load(self, uuid: str) -> Container:
        """Raises NotFound."""
        return await self._store.get(Container, uuid, org=EVERY_ORG)

    async def here(self) -> list[Container]:
        """Every undeleted container whose newest launch is on this node."""
        where = {"node": self.node, "status": {"$ne": Status.DELETED.value}}
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
            actor=f"node:{self.node}",
            revision=container.revision + 1,
            status=status,
            reason=reason,
            **facts,
        )
        container = await self._store.change(
            container, values, at=at, status=status, reason=reason, messages=[message]
        )
        await self._outbox.send(container)
        if status in OVER:
            await self._leases.release(container.uuid, container.fence)
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
