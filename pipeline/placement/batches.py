"""Containers that are planned together: who asked for them, and what they need."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from pipeline.adapters.store.store import EVERY_ORG, Store
from pipeline.catalog.gates import Gates
from pipeline.catalog.requirements import Gate
from pipeline.containers import volumes
from pipeline.errors import CannotPlace, LostRace, NoCapacity, NotFound, YardError
from pipeline.placement import planning
from pipeline.placement.eligibility import ResourceRequest
from pipeline.placement.line import Line, turn_of
from pipeline.placement.node_view import NodeView
from pipeline.placement.planning import Choice
from pipeline.placement.turns import Turn
from pipeline.records.idempotency import new_id
from schemas.container import Container, Desired
from schemas.image import Image
from schemas.node import Lease, Node
from schemas.states import ContainerStatus as Status
from schemas.states import ImageStatus, NodeStatus


@dataclass(eq=False, slots=True)
class Ask:
    """One call of `place`."""

    org: str
    uuid: str
    cause: str | None
    answer: asyncio.Future[Container | None]
    """What is still to be sent of the record; None when there is nothing."""
    is_taken: bool = False


@dataclass(eq=False, slots=True)
class Pending:
    """A container that is to be placed, and who asked for it."""

    container: Container
    asks: list[Ask]
    wants: ResourceRequest | None = None
    choice: Choice | None = None
    lease: Lease | None = None
    refusal: YardError | None = None
    kept: tuple[str, ...] = ()
    """GPUs of the container that it replaces."""

    @property
    def turn(self) -> Turn:
        return turn_of(self.container, 0 if self.wants is None else self.wants.gpus)

    def answer(self, sending: Container | None = None) -> None:
        """The first who asked sends what is to be said."""
        for number, ask in enumerate(self.asks):
            if not ask.answer.done():
                ask.answer.set_result(None if number else sending)

    def fail(self, error: YardError) -> None:
        fail(self.asks, error)


@dataclass(slots=True)
class Batch:
    asks: list[Ask]
    attempt: str = field(default_factory=new_id)
    pending: list[Pending] = field(default_factory=list)
    unasked: list[Container] = field(default_factory=list)
    """Placed without that anybody asked now, and what is said of them is still to be sent."""


class Loading:
    """Reads what is to be planned, in one go."""

    def __init__(self, store: Store, view: NodeView, line: Line, gates: Gates) -> None:
        self._gates = gates
        self._store = store
        self._view = view
        self._line = line

    async def load(self, batch: Batch, launching: Collection[str]) -> None:
        """With those that have waited before. Answers those for which there is nothing to do."""
        by_uuid: dict[str, list[Ask]] = defaultdict(list)
        for ask in batch.asks:
            by_uuid[ask.uuid].append(ask)
        where = {"_id": {"$in": list(by_uuid)}}
        found = await self._store.find(Container, org=EVERY_ORG, where=where, sort=())
        known = {each.uuid: each for each in found}
        for uuid, asks in by_uuid.items():
            _sort_out(batch, known.get(uuid), asks, launching)
        for waiting in await self._line.first():
            # Who joins the memory of another one waits for that one.
            if waiting.uuid not in by_uuid and waiting.spec.ipc_with is None:
                _sort_out(batch, waiting, [], launching)
        images = {each.container.image for each in batch.pending}
        ready = await self._store.find(
            Image, org=EVERY_ORG, where={"_id": {"$in": list(images)}}, sort=()
        )
        by_image = {(each.org, each.uuid): each for each in ready}
        gates = await self._gates.of_all(ready)
        for pending in batch.pending:
            image = by_image.get((pending.container.org, pending.container.image))
            try:
                gate = gates.get(pending.container.image)
                wants = await self._wants(pending.container, image, gate)
                pending.wants, pending.kept = await self._beyond(pending.container, wants)
            except YardError as error:
                pending.refusal = error

    async def _wants(
        self, container: Container, image: Image | None, gate: Gate | None
    ) -> ResourceRequest:
        """Raises NoCapacity, CannotPlace, InvalidInput, NotFound."""
        if image is None:
            raise NotFound(f"There is no image {container.image}.")
        if image.status is not ImageStatus.READY:
            raise CannotPlace(f"the image is {image.status}, not READY")
        wants = await self._beside(container, planning.request(container.spec, image, gate))
        return await self._with_volumes(container, wants)

    async def _beside(self, container: Container, wants: ResourceRequest) -> ResourceRequest:
        """Where it joins the memory of another container: on the node of that one.

        Raises NoCapacity while that one is on none, CannotPlace when it is gone.
        """
        if container.spec.ipc_with is None:
            return wants
        where = {"_id": container.spec.ipc_with, "status": {"$ne": Status.DELETED.value}}
        joined = await self._store.find_one(Container, org=container.org, where=where)
        if joined is None:
            raise CannotPlace("The container whose memory it joins (ipc_with) is gone.")
        if joined.status not in (Status.RUNNING, Status.UNHEALTHY) or joined.node is None:
            raise NoCapacity(f"It waits for {joined.name}, whose memory it joins, to run.")
        node = self._view.capacity.get(joined.node)
        name = joined.node if node is None else node.name
        if wants.node not in (None, joined.node, name):
            raise CannotPlace(f"{joined.name}, whose memory it joins, runs on {name}.")
        return replace(wants, node=joined.node)

    async def _beyond(
        self, container: Container, wants: ResourceRequest
    ) -> tuple[ResourceRequest, tuple[str, ...]]:
        """Where it replaces another: on its node, and what that one does not hold there.

        Raises CannotPlace where it may not run there.
        """
        if container.replaces is None:
            return wants, ()
        old = await self._store.find_by_id(Container, container.replaces, org=container.org)
        if old is None or old.node is None or old.status is Status.DELETED:
            return wants, ()
        node = self._view.capacity.get(old.node)
        if wants.node not in (None, old.node, old.node_name):
            raise CannotPlace(f"{old.name}, which it replaces, is on {old.node_name}.")
        if node is None or (lease := node.leases.get(old.uuid)) is None:
            return replace(wants, node=old.node), ()
        return planning.beyond(wants, lease, node)

    async def _with_volumes(self, container: Container, wants: ResourceRequest) -> ResourceRequest:
        """What it keeps is used where it lies.

        Raises NoCapacity while that node is no more, CannotPlace when it may not run there.
        """
        paths = [volume.path for volume in container.spec.volumes]
        for volume in await volumes.kept(self._store, container, paths) if paths else ():
            where = f"its volume {volume.path} is on {volume.node_name}"
            node = await self._store.find_by_id(Node, volume.node, org=EVERY_ORG)
            if node is None or node.status is NodeStatus.DELETED:
                raise NoCapacity(
                    f"It waits: {where}, which was removed; it is placed when that is back, or the"
                    " volume was deleted."
                )
            if wants.node not in (None, volume.node, volume.node_name):
                raise CannotPlace(f"No node can run it: {where}, and it may run elsewhere only.")
            wants = replace(wants, node=volume.node, volume=where)
        return wants


def _sort_out(
    batch: Batch, container: Container | None, asks: Sequence[Ask], launching: Collection[str]
) -> None:
    theirs = [ask for ask in asks if container is not None and container.org == ask.org]
    for ask in asks:
        if ask not in theirs:
            fail([ask], NotFound(f"There is no container {ask.uuid}."))
    if container is None or (asks and not theirs):
        return
    pending = Pending(container, theirs)
    if container.status is not Status.REQUESTED or container.desired is not Desired.RUNNING:
        pending.answer()
    elif container.uuid in launching:
        pending.fail(LostRace(f"Container {container.uuid} is being placed already."))
    else:
        batch.pending.append(pending)


def fail(asks: Sequence[Ask], error: YardError) -> None:
    for ask in asks:
        if not ask.answer.done():
            ask.answer.set_exception(error)
            # Of those whose callers have left nobody may ask.
            ask.answer.exception()
