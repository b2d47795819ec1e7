"""The stage that finds a node and leases what the container needs there, all or nothing."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pipeline.adapters.store import EVERY_ORG
from pipeline.core import records
from pipeline.core.containers import announce, order
from pipeline.core.leases import Leases
from pipeline.errors import CannotPlace, LostRace, NoCapacity
from pipeline.rules import placement
from schemas.container import Container, Desired
from schemas.image import Image
from schemas.node import Node
from schemas.states import ContainerStatus as Status
from schemas.states import ImageStatus, NodeStatus

if TYPE_CHECKING:
    from pipeline.adapters.store import Store
    from pipeline.core.outbox import Outbox

log = logging.getLogger(__name__)

ATTEMPTS = 20
"""Lost races for one lease before the message is tried again later."""
PLACER = "worker:placement"


class Placing:
    """Safe to run in several workers at once: the lease decides who placed a container."""

    def __init__(
        self,
        store: Store,
        outbox: Outbox,
        leases: Leases,
        *,
        node_grace_s: float,
        clock: records.Clock,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._leases = leases
        self._node_grace_s = node_grace_s
        self._clock = clock

    async def place(self, org: str, uuid: str) -> None:
        """Move a REQUESTED container to PLACED. Idempotent: any other state is left alone.

        When nothing is free the container stays REQUESTED, with the reasons per node, until the
        sweep asks again; when nothing can ever fit it becomes FAILED.
        """
        container = await self._store.get(Container, uuid, org=org)
        if container.status is not Status.REQUESTED or container.desired is not Desired.RUNNING:
            return
        image = await self._store.get(Image, container.image, org=org)
        if image.status is not ImageStatus.READY:
            reason = f"the image is {image.status}, not READY"
            await self._settle(container, Status.FAILED, "failed", reason, {})
            return
        for _ in range(ATTEMPTS):
            try:
                if await self._try(container, image):
                    return
            except NoCapacity as error:
                await self._wait(container, error)
                return
            except CannotPlace as error:
                values = {"refusals": _refusals(error)}
                await self._settle(container, Status.FAILED, "failed", error.message, values)
                return
        raise LostRace(f"Container {uuid} lost {ATTEMPTS} races for a lease.")

    async def _try(self, container: Container, image: Image) -> bool:
        """One plan and one lease. False: somebody took the devices first, plan again."""
        nodes = await self._store.find(
            Node, org=EVERY_ORG, where={"status": {"$ne": NodeStatus.DELETED.value}}, sort=[]
        )
        if await self._drop_leftovers(container, nodes):
            return False
        fence = container.fence + 1
        wants = placement.request(container.spec, image)
        choice = placement.plan(wants, nodes, now=self._clock(), grace_s=self._node_grace_s)
        leased = await self._leases.acquire(
            choice.node,
            container=container.uuid,
            fence=fence,
            gpus=choice.gpus,
            memory_bytes=wants.memory_bytes,
            cpus=wants.cpus,
        )
        if leased:
            await self._launch(container, choice, fence)
        return leased

    async def _launch(self, container: Container, choice: placement.Choice, fence: int) -> None:
        at = self._clock()
        node = choice.node
        placed = container.model_copy(
            update={"node": node.uuid, "fence": fence, "gpus": list(choice.gpus)}
        )
        messages = [
            announce(
                placed,
                "placed",
                at=at,
                actor=PLACER,
                revision=container.revision + 1,
                status=Status.PLACED,
                reason=None,
                gpus=placed.gpus,
                fence=fence,
            ),
            order(placed, "launch", at=at, actor=PLACER),
        ]
        values = {"node": node.uuid, "fence": fence, "gpus": placed.gpus, "refusals": {}}
        try:
            container = await self._store.change(
                container, values, at=at, status=Status.PLACED, reason=None, messages=messages
            )
        except LostRace:
            await self._leases.release(container.uuid, fence)
            raise
        await self._outbox.send(container)

    async def _drop_leftovers(self, container: Container, nodes: list[Node]) -> bool:
        """Free leases of launches that crashed between the lease and the record."""
        leftovers = [node.leases[container.uuid] for node in nodes if container.uuid in node.leases]
        for lease in leftovers:
            await self._leases.release(container.uuid, lease.fence)
        return bool(leftovers)

    async def _wait(self, container: Container, error: NoCapacity) -> None:
        refusals = _refusals(error)
        if container.refusals == refusals:
            return
        await self._settle(
            container, Status.REQUESTED, "waiting", error.message, {"refusals": refusals}
        )

    async def _settle(
        self,
        container: Container,
        status: Status,
        kind: str,
        reason: str,
        values: Mapping[str, Any],
    ) -> None:
        at: datetime = self._clock()
        message = announce(
            container,
            kind,
            at=at,
            actor=PLACER,
            revision=container.revision + 1,
            status=status,
            reason=reason,
            **values,
        )
        container = await self._store.change(
            container, values, at=at, status=status, reason=reason, messages=[message]
        )
        await self._outbox.send(container)


def _refusals(error: CannotPlace) -> dict[str, list[str]]:
    nodes: dict[str, list[dict[str, str]]] = error.facts.get("nodes", {})
    return {name: [reason["detail"] for reason in reasons] for name, reasons in nodes.items()}
