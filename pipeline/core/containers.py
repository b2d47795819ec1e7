"""Containers: what their owners ask for. Placing them: `placing`. Running them: `launches`."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from pipeline.core import records
from pipeline.core.images import Images
from pipeline.core.leases import Leases
from pipeline.core.paging import Page, page
from pipeline.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    LostRace,
    NotFound,
    NotReady,
    StaleRevision,
    YardError,
)
from pipeline.rules import specs, topology
from pipeline.rules.launching import RESERVED
from pipeline.rules.observation import OVER
from schemas.access import Principal
from schemas.commands import NodeOrder
from schemas.container import Container, ContainerSpec, Desired
from schemas.image import Image
from schemas.message import Message
from schemas.states import ContainerStatus as Status
from schemas.states import ImageStatus

if TYPE_CHECKING:
    from pipeline.adapters.store import Store
    from pipeline.core.outbox import Outbox

OFF_NODE = frozenset({Status.REQUESTED, Status.LOST})
"""No agent is there that could carry out an order."""


class Containers:
    """Every call acts for the organisation of its caller and sees nothing of others."""

    def __init__(
        self,
        store: Store,
        outbox: Outbox,
        images: Images,
        leases: Leases,
        clock: records.Clock,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._images = images
        self._leases = leases
        self._clock = clock

    async def run(
        self, caller: Principal, spec: ContainerSpec, *, key: str | None = None
    ) -> Container:
        """Record a container as REQUESTED and have it placed.

        Idempotent per `key`. Raises NotFound for the image, NotReady and Conflict while it is not
        READY, InvalidInput, KeyReused, AlreadyExists when the name is taken.
        """
        specs.require_container(spec)
        uuid = records.id_for(caller.org, Container.resource, key)
        try:
            image = await self._images.find(caller, spec.image)
            _refuse_unready(image)
        except YardError:
            # A repeat is answered as the first call was, whatever became of the image since.
            if key is None or (earlier := await self._earlier(caller.org, uuid)) is None:
                raise
            return _replay(earlier, records.fingerprint(spec))
        at = self._clock()
        asked = spec
        spec = _completed(spec, image)
        container = Container(
            uuid=uuid,
            org=caller.org,
            created_at=at,
            updated_at=at,
            status_since=at,
            name=spec.name or f"c-{uuid[:8]}",
            spec=spec,
            spec_hash=records.fingerprint(spec),
            image=image.uuid,
            pull=image.pinned or image.reference,
            request_hash=records.fingerprint(asked),
            created_by=caller.id,
        )
        container.outbox = [
            announce(container, "requested", at=at, actor=caller.id, revision=1),
            records.command(container, "place", at=at, actor=caller.id, revision=1),
        ]
        return await self._insert(container)

    async def get(self, caller: Principal, uuid: str) -> Container:
        """Raises NotFound; a deleted container is not found any more."""
        container = await self._store.get(Container, uuid, org=caller.org)
        if container.status is Status.DELETED:
            raise NotFound(f"There is no container {uuid}.")
        return container

    async def list(
        self,
        caller: Principal,
        *,
        limit: int = 50,
        cursor: str | None = None,
        status: str | None = None,
        name: str | None = None,
        image: str | None = None,
        node: str | None = None,
    ) -> Page[Container]:
        """Newest first. Deleted ones appear only when `status` asks for them."""
        where: dict[str, Any] = {"status": status or {"$ne": Status.DELETED.value}}
        given = {"name": name, "image": image, "node": node}
        where |= {field: value for field, value in given.items() if value is not None}
        return await page(
            self._store, Container, org=caller.org, where=where, limit=limit, cursor=cursor
        )

    async def stop(self, caller: Principal, uuid: str, *, revision: int | None = None) -> Container:
        """Ask for a stop; the node carries it out. Idempotent: of one that is deleted nothing is
        asked, because an order may come after the deletion. Raises NotFound, StaleRevision."""
        return await self._ask(caller, uuid, Desired.STOPPED, revision)

    async def delete(
        self, caller: Principal, uuid: str, *, revision: int | None = None
    ) -> Container:
        """Ask for removal, from whatever state. Idempotent. Raises NotFound, StaleRevision."""
        return await self._ask(caller, uuid, Desired.DELETED, revision)

    async def _ask(
        self, caller: Principal, uuid: str, desired: Desired, revision: int | None
    ) -> Container:
        for _ in range(20):
            container = await self._store.get(Container, uuid, org=caller.org)
            if revision is not None and revision != container.revision:
                raise StaleRevision(f"It is at revision {container.revision}, not {revision}.")
            if _settled(container, desired):
                return container
            try:
                return await self._want(container, desired, caller.id)
            except LostRace:
                continue
        raise Conflict("The container keeps changing: try again.")

    async def _want(self, container: Container, desired: Desired, actor: str) -> Container:
        at = self._clock()
        status = _at_once(container, desired)
        kind = status.lower() if status else f"{_VERBS[desired]}-requested"
        reason = f"{_VERBS[desired]} requested by {actor}"
        messages = [
            announce(
                container,
                kind,
                at=at,
                actor=actor,
                revision=container.revision + 1,
                status=status or container.status,
                reason=reason,
            )
        ]
        if status is None:
            messages.append(order(container, _VERBS[desired], at=at, actor=actor))
        changed = await self._store.change(
            container,
            {"desired": desired.value, "restart_at": None},
            at=at,
            status=status,
            reason=reason,
            messages=messages,
        )
        if status is not None:
            await self._leases.release(container.uuid, container.fence, node=container.node)
        await self._outbox.send(changed)
        return changed

    async def _insert(self, container: Container) -> Container:
        try:
            container = await self._store.insert(container)
        except AlreadyExists as taken:
            return await self._replayed(container, taken)
        await self._outbox.send(container)
        return container

    async def _replayed(self, container: Container, taken: AlreadyExists) -> Container:
        earlier = await self._earlier(container.org, container.uuid)
        if earlier is None:
            raise AlreadyExists(
                f"A container named {container.name} exists already: delete it or choose another"
                " name.",
                **taken.facts,
            ) from taken
        return _replay(earlier, container.request_hash)

    async def _earlier(self, org: str, uuid: str) -> Container | None:
        return await self._store.find_one(Container, org=org, where={"_id": uuid})


def _replay(earlier: Container, request_hash: str | None) -> Container:
    return records.replayed(earlier, is_same=earlier.request_hash == request_hash)


_VERBS = {Desired.STOPPED: "stop", Desired.DELETED: "remove"}


def _settled(container: Container, desired: Desired) -> bool:
    if container.status is Status.DELETED or container.desired is Desired.DELETED:
        return True
    return desired is Desired.STOPPED and (container.desired is desired or container.status in OVER)


def _at_once(container: Container, desired: Desired) -> Status | None:
    """The end state when no agent has to do anything for it, or none can."""
    if container.status in OFF_NODE or container.node is None:
        return Status.DELETED if desired is Desired.DELETED else Status.STOPPED
    return None


def order(
    container: Container, verb: str, *, at: datetime, actor: str | None, node: str | None = None
) -> Message:
    """What the agent of the container's node must do, fenced by the newest launch."""
    to = node or container.node
    assert to is not None, "only a placed container has an agent"
    return Message(
        id=f"{container.uuid}.{container.revision + 1}.node-{verb}",
        subject=topology.node_order(to, verb),
        type=f"modelyard.node.{verb}",
        time=at,
        actor=actor,
        data=NodeOrder(
            container=container.uuid, org=container.org, fence=container.fence
        ).model_dump(),
    )


def announce(
    container: Container, kind: str, *, at: datetime, actor: str | None, revision: int, **facts: Any
) -> Message:
    """An event of a container, with what every reader of events wants to know."""
    seen = {
        "name": container.name,
        "image": container.image,
        "status": container.status,
        "reason": container.reason,
        "node": container.node,
    }
    return records.event(container, kind, at=at, actor=actor, revision=revision, **(seen | facts))


def _refuse_unready(image: Image) -> None:
    if image.status is ImageStatus.READY:
        return
    why = f": {image.reason}" if image.reason else ""
    kind = Conflict if image.status is ImageStatus.FAILED else NotReady
    raise kind(f"The image {image.name} is {image.status}, not READY{why}")


def _completed(spec: ContainerSpec, image: Image) -> ContainerSpec:
    """The spec with the image's own needs where the caller said nothing."""
    ports = spec.ports or specs.exposed(image.needs)
    gpus = image.needs.gpus if spec.gpus is None else spec.gpus
    reserved = [key for key in spec.labels if key.startswith(RESERVED)]
    if reserved:
        raise InvalidInput(
            f"Labels must not begin with {RESERVED!r}: {', '.join(reserved)}.", field="labels"
        )
    spec = spec.model_copy(update={"ports": ports, "gpus": gpus})
    specs.require_completed(spec)
    return spec
