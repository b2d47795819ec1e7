"""The stage that finds a node and leases what the container needs there, all or nothing."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pipeline.core import records
from pipeline.core.containers import announce, order
from pipeline.core.leases import Leases
from pipeline.core.node_view import NodeView
from pipeline.errors import CannotPlace, LostRace, NoCapacity, YardError
from pipeline.rules import placement
from pipeline.rules.eligibility import Request
from schemas.container import Container, Desired
from schemas.image import Image, Progress
from schemas.node import Lease, Node
from schemas.states import ContainerStatus as Status
from schemas.states import ImageStatus

if TYPE_CHECKING:
    from pipeline.adapters.store import Store
    from pipeline.core.outbox import Outbox

log = logging.getLogger(__name__)

ATTEMPTS = 20
"""Lost races for one lease before the message is tried again later."""
VIEW_AGE_S = 0.5
PLACER = "worker:placement"


@dataclass(frozen=True, slots=True)
class _Plan:
    nodes: Sequence[Node]
    wants: Request
    choice: placement.Choice


class Placing:
    """Safe to run in several workers at once.

    Each attempt claims a fencing number of its own in the record before it leases anything. So a
    number names one attempt, whoever claims a newer one has shut the older ones out, and what an
    attempt that died left behind can be told from what another one needs.
    """

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
        self._view = NodeView(store, age_s=VIEW_AGE_S, clock=clock)
        self._node_grace_s = node_grace_s
        self._clock = clock

    async def place(self, org: str, uuid: str) -> None:
        """Move a REQUESTED container to PLACED. Idempotent: any other state is left alone.

        When nothing is free the container stays REQUESTED, with the reasons per node, until the
        sweep asks again; when nothing can ever fit, or what is asked for makes no sense, it becomes
        FAILED. Raises LostRace when somebody else is at it, StoreUnavailable.
        """
        container = await self._store.get(Container, uuid, org=org)
        if container.status is not Status.REQUESTED or container.desired is not Desired.RUNNING:
            return
        await self._attempt(container)

    async def _attempt(self, container: Container) -> None:
        last_fence = container.fence
        for _ in range(ATTEMPTS):
            try:
                plan = await self._plan(container)
            except NoCapacity as error:
                return await self._wait(container, error)
            except YardError as error:
                if error.retryable:
                    raise
                return await self._give_up(container, error)
            if container.fence == last_fence:
                container = await self._claim(container)
            await self._drop_leftovers(container, plan.nodes)
            if await self._lease(container, plan):
                return await self._launch(container, plan.choice)
        raise LostRace(f"Container {container.uuid} lost {ATTEMPTS} races for a lease.")

    async def _plan(self, container: Container) -> _Plan:
        """Raises NoCapacity, CannotPlace, InvalidInput."""
        image = await self._store.get(Image, container.image, org=container.org)
        if image.status is not ImageStatus.READY:
            raise CannotPlace(f"the image is {image.status}, not READY")
        wants = placement.request(container.spec, image)
        began = self._clock()
        try:
            return await self._choose(container, wants)
        except CannotPlace:
            # Before that is believed, it has to be true of the nodes as they are now.
            if not await self._view.read_since(began):
                raise
            return await self._choose(container, wants)

    async def _choose(self, container: Container, wants: Request) -> _Plan:
        nodes = await self._view.nodes()
        # What an earlier attempt left behind for this container counts as free.
        open_to_it = [placement.without(node, container.uuid) for node in nodes]
        choice = placement.plan(wants, open_to_it, now=self._clock(), grace_s=self._node_grace_s)
        return _Plan(nodes, wants, choice)

    async def _claim(self, container: Container) -> Container:
        return await self._store.change(container, {"fence": container.fence + 1}, at=self._clock())

    async def _drop_leftovers(self, claimed: Container, nodes: Sequence[Node]) -> None:
        """Free what attempts leased that died before their record said so, or cannot say it now."""
        for node in nodes:
            lease = node.leases.get(claimed.uuid)
            if lease is not None and lease.fence < claimed.fence:
                await self._leases.release(claimed.uuid, lease.fence, node=node.uuid)

    async def _lease(self, claimed: Container, plan: _Plan) -> bool:
        """False: somebody took the devices first, plan again."""
        node, wants = plan.choice.node, plan.wants
        lease = Lease(
            container=claimed.uuid,
            fence=claimed.fence,
            gpus=list(plan.choice.gpus),
            memory_bytes=wants.memory_bytes,
            cpus=wants.cpus,
        )
        if await self._leases.acquire(node, **dict(lease)):
            self._view.leased(node.uuid, lease)
            return True
        await self._view.look_again(node.uuid)
        return False

    async def _launch(self, claimed: Container, choice: placement.Choice) -> None:
        at = self._clock()
        values: dict[str, Any] = {
            "node": choice.node.uuid,
            "gpus": list(choice.gpus),
            "refusals": {},
            # That of an earlier launch, on another node, says nothing about this one.
            "progress": Progress(),
        }
        placed = claimed.model_copy(update=values)
        messages = [
            announce(
                placed,
                "placed",
                at=at,
                actor=PLACER,
                revision=claimed.revision + 1,
                status=Status.PLACED,
                reason=None,
                gpus=placed.gpus,
                fence=placed.fence,
            ),
            order(placed, "launch", at=at, actor=PLACER),
        ]
        try:
            container = await self._store.change(
                claimed, values, at=at, status=Status.PLACED, reason=None, messages=messages
            )
        except LostRace:
            await self._leases.release(claimed.uuid, claimed.fence, node=choice.node.uuid)
            raise
        await self._outbox.send(container)

    async def _wait(self, container: Container, error: NoCapacity) -> None:
        refusals = _refusals(error)
        if container.refusals == refusals:
            return
        await self._settle(
            container, Status.REQUESTED, "waiting", error.message, {"refusals": refusals}
        )

    async def _give_up(self, container: Container, error: YardError) -> None:
        values = {"refusals": _refusals(error)}
        await self._settle(container, Status.FAILED, "failed", error.message, values)

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


def _refusals(error: YardError) -> dict[str, list[str]]:
    nodes: dict[str, list[dict[str, str]]] = error.facts.get("nodes", {})
    return {name: [reason["detail"] for reason in reasons] for name, reasons in nodes.items()}
