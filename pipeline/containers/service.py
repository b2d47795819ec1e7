"""Containers: what their owners ask for. Placing them: `placement`. Running them: `agent`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pipeline.catalog.gates import Gates
from pipeline.catalog.requirements import Gate
from pipeline.containers import specs
from pipeline.containers.changes import place_again, restart_at_once
from pipeline.containers.observation import OVER
from pipeline.containers.owner_requests import (
    AFRESH,
    NOT_THERE,
    UP,
    ask_for,
    is_asked,
    refuse_ending,
    refuse_irreplaceable,
)
from pipeline.containers.volumes import Volumes
from pipeline.errors import AlreadyExists, InvalidInput, NotFound, YardError
from pipeline.images.service import Images
from pipeline.nodes.leases import Leases
from pipeline.organisations.quotas import Quotas
from pipeline.records.idempotency import fingerprint, id_for, replayed
from pipeline.records.kernel import Change, Records, living, require_revision
from pipeline.records.messages import command, event
from pipeline.records.queries import Page, find_living, get_living, page
from schemas.access import Principal
from schemas.container import Container, ContainerSpec, Desired, Ipc
from schemas.image import Image
from schemas.organisation import Amounts
from schemas.states import ContainerStatus as Status


class Containers:
    """Every call acts for the organisation of its caller and sees nothing of others."""

    def __init__(self, records: Records, images: Images, leases: Leases, gates: Gates) -> None:
        self._records = records
        self.gates = gates
        self._store = records.store
        self._images = images
        self._leases = leases
        self._quotas = Quotas(records)
        self.volumes = Volumes(records)

    async def run(
        self,
        caller: Principal,
        spec: ContainerSpec,
        *,
        key: str | None = None,
        replica_of: tuple[str, int] | None = None,
        spec_hash: str | None = None,
    ) -> Container:
        """Record a container as REQUESTED and have it placed.

        Idempotent per `key`. `replica_of`: the deployment, and its number there. `spec_hash`: by
        which the caller tells this spec from others, instead of ours. Raises NotFound for the
        image, NotReady and Conflict while it is not READY, InvalidInput, KeyReused, QuotaExceeded,
        AlreadyExists when the name is taken.
        """
        uuid = id_for(caller.org, Container.resource, key)
        try:
            container, gate = await self._drafted(caller, spec, uuid, replica_of)
            if spec_hash is not None:
                container = container.model_copy(update={"spec_hash": spec_hash})
            made = await self._insert(container)
        except YardError:
            # A repeat is answered as the first call was, whatever became of image or quota since.
            find = self._store.find_by_id
            if key is None or not (earlier := await find(Container, uuid, org=caller.org)):
                raise
            return replayed(earlier, fingerprint(spec))
        await self._use(caller, made, gate)
        return made

    async def _drafted(
        self, caller: Principal, spec: ContainerSpec, uuid: str, replica_of: tuple[str, int] | None
    ) -> tuple[Container, Gate | None]:
        request_hash = fingerprint(spec)
        is_replica = replica_of is not None
        prepared, image, gate = await self._prepared(caller, spec, is_replica=is_replica)
        specs.refuse_unnamed_volumes(spec)
        spec = await self._joined(caller, prepared)
        deployment, replica = replica_of or (None, None)
        container = Container(
            **self._records.initial(caller.org, uuid),
            name=spec.name or f"c-{uuid[:8]}",
            spec=spec,
            spec_hash=fingerprint(spec),
            image=image.uuid,
            image_name=image.name,
            pull=image.pinned or image.reference,
            has_probe=spec.health is not None or image.has_healthcheck,
            deployment=deployment,
            replica=replica,
            request_hash=request_hash,
            created_by=caller.id,
        )
        return container, gate

    async def _use(self, caller: Principal, container: Container, gate: Gate | None) -> None:
        """Mark what the catalogue says of its image as used. Raises NotFound, and ends the
        container, where that was deleted before it was inserted."""
        if container.replayed or await self.gates.use(caller.org, gate):
            return
        await self.delete(caller, container.uuid)
        raise _not_offered()

    async def replace(
        self,
        caller: Principal,
        uuid: str,
        spec: ContainerSpec,
        *,
        key: str | None = None,
        spec_hash: str | None = None,
        revision: int | None = None,
    ) -> Container:
        """Have a new container take the place of this one, on its node: it is made beside it, and
        once it runs, and is healthy where it has a probe, the old one goes. Whatever fails leaves
        the old one as it was, and nothing of the new one.

        What both need at once (a host port, a GPU, a volume) the old one gives up just before the
        new one starts. Without a name it has that of the old one. Idempotent per `key`; `spec_hash`
        as in `run`. Raises as `run`, StaleRevision, and Conflict for one that is under way itself,
        being replaced, or a replica.
        """
        old = await self._store.get(Container, uuid, org=caller.org)
        new = id_for(caller.org, Container.resource, key)
        spec = spec.model_copy(update={"name": spec.name or old.name})
        if key and (earlier := await self._store.find_by_id(Container, new, org=caller.org)):
            return replayed(earlier, fingerprint(spec))
        refuse_ending(old)
        require_revision(old, revision)
        refuse_irreplaceable(old)
        drafted, gate = await self._drafted(caller, spec, new, None)
        own = {"replaces": old.uuid, "spec_hash": spec_hash or drafted.spec_hash}
        freed = 0 if old.status in OVER else old.spec.gpus or 0
        more = Amounts(gpus=max(0, (drafted.spec.gpus or 0) - freed))
        made = await self._insert(drafted.model_copy(update=own), more)
        await self._use(caller, made, gate)
        return made

    async def _insert(self, container: Container, more: Amounts | None = None) -> Container:
        send = [event("requested"), command("place")]
        try:
            amounts = more or specs.amounts(container.spec)
            async with self._quotas.admitted(container.org, container.uuid, amounts):
                return await self._records.insert_once(container, send, actor=container.created_by)
        except AlreadyExists as taken:
            raise await self._name_taken(container, taken) from taken

    async def prepared(self, caller: Principal, spec: ContainerSpec) -> tuple[ContainerSpec, Image]:
        """The spec as a container of it would have it, and its image.

        Raises NotFound for the image, NotReady and Conflict while it is not READY, InvalidInput.
        """
        completed, image, _ = await self._prepared(caller, spec)
        return completed, image

    async def _prepared(
        self, caller: Principal, spec: ContainerSpec, *, is_replica: bool = False
    ) -> tuple[ContainerSpec, Image, Gate | None]:
        """With what the catalogue requires of the image. A replica is made as its deployment was,
        whatever the catalogue says by now: placement asks it again."""
        specs.require_container(spec)
        image = await self._images.find(caller, spec.image)
        specs.require_ready(image)
        gate = await self.gates.of(image)
        if gate is not None and not is_replica:
            defaults = image.defaults.gpus
            declared = image.needs.gpus if defaults is None else defaults
            spec = spec.model_copy(update={"gpus": gate.gpus(spec.gpus, declared)})
        return specs.completed(spec, image), image, gate

    async def get(self, caller: Principal, uuid: str) -> Container:
        """As `get_living`."""
        return await get_living(self._store, Container, uuid, org=caller.org)

    async def find(self, caller: Principal, wanted: str) -> Container:
        """As `find_living`."""
        return await find_living(self._store, Container, wanted, org=caller.org)

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
        deployment: str | None = None,
    ) -> Page[Container]:
        """Newest first. Deleted ones appear only when `status` asks for them."""
        ours = {"name": name, "image": image, "node": node, "deployment": deployment}
        where = living(Status.DELETED, status, **ours)
        return await page(
            self._store, Container, org=caller.org, where=where, limit=limit, cursor=cursor
        )

    async def stop(self, caller: Principal, uuid: str, *, revision: int | None = None) -> Container:
        """Ask for a stop; the node carries it out. Idempotent: of one that is deleted nothing is
        asked, because an order may come after the deletion. Raises NotFound, StaleRevision."""
        return await self._ask(caller, uuid, Desired.STOPPED, revision)

    async def start(
        self, caller: Principal, uuid: str, *, revision: int | None = None
    ) -> Container:
        """Have one placed and launched again that has stopped, failed or lost its node.

        Idempotent: what runs, or is on its way, is left alone. Raises NotFound, StaleRevision,
        QuotaExceeded, and Conflict while it is being stopped or deleted.
        """
        return await self._run_again(caller, uuid, revision, even_if_up=False)

    async def restart(
        self, caller: Principal, uuid: str, *, revision: int | None = None
    ) -> Container:
        """Have it stopped and started again where it is; what is not up is started as by `start`.

        Each call is a restart of its own. Raises as `start`.
        """
        return await self._run_again(caller, uuid, revision, even_if_up=True)

    async def delete(
        self, caller: Principal, uuid: str, *, volumes: bool = False, revision: int | None = None
    ) -> Container:
        """Ask for removal, from whatever state. Idempotent. Raises NotFound, StaleRevision.

        `volumes`: with all that its name keeps. Those of a replica end in any case: no other one
        ever gets its name.
        """
        asked = await self._ask(caller, uuid, Desired.DELETED, revision, volumes=volumes)
        if volumes or asked.delete_volumes:
            await self.volumes.end_with(asked, actor=caller.id)
        return asked

    async def tell(self, caller: Principal, uuid: str, kind: str, **facts: Any) -> None:
        """An event of what was done with it that changes nothing. Raises NotFound."""
        container = await self._store.get(Container, uuid, org=caller.org)
        told = Change({}, send=[event(kind, **facts)])
        await self._records.amend(container, lambda _, at: told, actor=caller.id)

    async def _ask(
        self,
        caller: Principal,
        uuid: str,
        desired: Desired,
        revision: int | None,
        *,
        volumes: bool = False,
    ) -> Container:
        def decide(container: Container, at: datetime) -> Change | None:
            require_revision(container, revision)
            if is_asked(container, desired):
                return None
            return ask_for(container, desired, caller, volumes=volumes)

        container = await self._store.get(Container, uuid, org=caller.org)
        asked = await self._records.amend(container, decide, actor=caller.id)
        if asked.status in OVER:
            await self._leases.release(asked.uuid, asked.fence, node=asked.node)
        return asked

    async def _joined(self, caller: Principal, spec: ContainerSpec) -> ContainerSpec:
        """With the uuid of the container whose memory it joins. Raises NotFound, InvalidInput."""
        if spec.ipc_with is None:
            return spec
        for named in ({"_id": spec.ipc_with}, {"name": spec.ipc_with}):
            where = living(Status.DELETED, **named)
            found = await self._store.find_one(Container, org=caller.org, where=where)
            if found is not None:
                break
        else:
            raise NotFound(f"There is no container {spec.ipc_with[:255]} to join (ipc_with).")
        if found.spec.engine_name is not None:
            raise InvalidInput(
                f"The container {found.name} has a name of its own on its engine (engine_name):"
                " none can join its memory.",
                field="ipc_with",
            )
        if found.spec.ipc is not Ipc.SHAREABLE:
            raise InvalidInput(
                f"The container {found.name} does not share its memory: run it with ipc"
                f" {Ipc.SHAREABLE}.",
                field="ipc_with",
            )
        return spec.model_copy(update={"ipc_with": found.uuid})

    async def _run_again(
        self, caller: Principal, uuid: str, revision: int | None, *, even_if_up: bool
    ) -> Container:
        def decide(container: Container, at: datetime) -> Change | None:
            require_revision(container, revision)
            refuse_ending(container)
            if container.status in NOT_THERE:
                return place_again(f"start requested by {caller.id}", **AFRESH)
            if even_if_up and container.status in UP:
                return restart_at_once(at, f"restart requested by {caller.id}")
            return None

        container = await self._store.get(Container, uuid, org=caller.org)
        # What has not ended counts already.
        more = specs.amounts(container.spec) if container.status in OVER else Amounts()
        async with self._quotas.admitted(container.org, uuid, more):
            asked = await self._records.amend(container, decide, actor=caller.id)
        if asked.status is Status.REQUESTED:
            # What was lost may still hold something; a newer launch has a number of its own.
            await self._leases.release(asked.uuid, asked.fence)
            await self._use_again(caller, asked)
        return asked

    async def _use_again(self, caller: Principal, container: Container) -> None:
        """As `_use`, of one that had stopped: that is what it does again."""
        gate = await self.gates.of_id(container.org, container.image)
        if await self.gates.use(caller.org, gate):
            return
        await self.stop(caller, container.uuid)
        raise _not_offered()

    async def _name_taken(self, container: Container, taken: AlreadyExists) -> AlreadyExists:
        if taken.facts.get("index") == "replaced_once":
            told = (
                f"The container {container.name} is being replaced already: try again afterwards."
            )
            return AlreadyExists(told, **taken.facts)
        alive = living(Status.DELETED, name=container.name)
        holder = await self._store.find_one(Container, org=container.org, where=alive)
        status = f" and is {holder.status}" if holder else ""
        return AlreadyExists(
            f"A container named {container.name} exists already{status}: delete it, which frees"
            " the name, or choose another name.",
            **taken.facts,
        )


def _not_offered() -> NotFound:
    return NotFound("The image was deleted from the catalogue meanwhile.")
