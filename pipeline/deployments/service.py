"""Deployments: what their owners ask for. Keeping them so: `reconciler`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from pipeline.catalog.requirements import Gate
from pipeline.containers.service import Containers
from pipeline.deployments import requests
from pipeline.deployments.decision import retemplated, under_way
from pipeline.errors import AlreadyExists, Conflict, InvalidInput, NotFound
from pipeline.images.specs import annotated
from pipeline.records.idempotency import fingerprint, id_for, replayed
from pipeline.records.kernel import Change, Records, living, require_revision
from pipeline.records.messages import command, event
from pipeline.records.queries import Page, find_living, get_living, page
from schemas.access import Principal
from schemas.container import ContainerSpec, Desired, RestartPolicy
from schemas.deployment import (
    KEPT_ORDERS,
    Deployment,
    DeploymentEdit,
    DeploymentSpec,
    Owner,
    Template,
)
from schemas.image import Image
from schemas.states import DeploymentStatus as Status
from schemas.states import ImageStatus

RECONCILE = "reconcile"
Decided = Callable[[Deployment, datetime], Mapping[str, Any]]
"""The values that change; empty leaves the record."""
_GIVEN: Final = {*DeploymentEdit.model_fields, "history", "orders", "replicas"} - {"template"}
"""What an edit may change, but for the template."""


class Deployments:
    """Every call acts for the organisation of its caller and sees nothing of others.

    What changes is written with the command to reconcile; the replicas follow.
    """

    def __init__(self, records: Records, containers: Containers) -> None:
        self._records = records
        self._store = records.store
        self._containers = containers

    async def create(
        self,
        caller: Principal,
        spec: DeploymentSpec,
        *,
        key: str | None = None,
        own: Mapping[str, str] | None = None,
        owner: Owner | None = None,
    ) -> Deployment:
        """Record a deployment as DEPLOYING and have its replicas made.

        Idempotent per `key`. `own`: see `annotated`. With an `owner`, `restart` of the template
        counts, and nobody changes it by hand. Raises InvalidInput, NotFound for the image, NotReady
        and Conflict while it is not READY, KeyReused, AlreadyExists when the name is taken.
        """
        uuid = id_for(caller.org, Deployment.resource, key)
        request_hash = fingerprint(spec)
        if key and (earlier := await self._store.find_by_id(Deployment, uuid, org=caller.org)):
            return replayed(earlier, request_hash)
        requests.require_order(spec.min_replicas, spec.max_replicas)
        autoscale = requests.policy(spec.autoscale)
        restart = spec.template.restart if owner else RestartPolicy.ALWAYS
        template = await self._template(caller, spec.template, generation=1, restart=restart)
        initial = self._records.initial(caller.org, uuid)
        deployment = Deployment(
            **initial,
            **spec.model_dump(exclude={"template", "autoscale", "annotations"}),
            annotations=annotated(spec.annotations, own),
            template=template,
            autoscale=autoscale,
            rollout_since=initial["created_at"],
            replicas=spec.min_replicas,
            request_hash=request_hash,
            created_by=caller.id,
            owner=owner,
        )
        deployment.idle_at = deployment.idle_when_used(deployment.created_at)
        gate = await self._containers.gates.of_id(caller.org, template.spec.image)
        made = await self._records.insert_once(
            deployment,
            [event("created"), command(RECONCILE)],
            actor=caller.id,
            taken=requests.taken(spec.name),
        )
        if not await self._is_used(made, gate):
            gone = ending("its image was deleted meanwhile")
            await self._records.amend(made, lambda _now, _at: gone, actor=caller.id)
            raise requests.gone()
        return made

    async def get(self, caller: Principal, uuid: str) -> Deployment:
        """As `get_living`."""
        return await get_living(self._store, Deployment, uuid, org=caller.org)

    async def called(self, caller: Principal, slug: str) -> Deployment:
        """The one that the gateway calls so. Raises NotFound."""
        digits = slug[-16:]
        begins = f"{digits[:8]}-{digits[8:12]}-{digits[12:]}-"
        where = living(Status.DELETED) | {"_id": {"$gte": begins, "$lt": f"{begins}g"}}
        for found in await self._store.find(Deployment, org=caller.org, where=where, sort=()):
            if found.slug == slug:
                return found
        raise NotFound("There is no such deployment.")

    async def find(self, caller: Principal, wanted: str) -> Deployment:
        """As `find_living`."""
        return await find_living(self._store, Deployment, wanted, org=caller.org)

    async def list(
        self,
        caller: Principal,
        *,
        limit: int = 50,
        cursor: str | None = None,
        status: str | None = None,
        name: str | None = None,
    ) -> Page[Deployment]:
        """Newest first. Deleted ones appear only when `status` asks for them."""
        where = living(Status.DELETED, status, name=name)
        return await page(
            self._store, Deployment, org=caller.org, where=where, limit=limit, cursor=cursor
        )

    async def recall(self, caller: Principal, uuid: str) -> Deployment | None:
        """Also one that was deleted."""
        return await self._store.find_by_id(Deployment, uuid, org=caller.org)

    async def search(
        self,
        caller: Principal,
        *,
        statuses: Collection[Status] = (),
        image: str | None = None,
        oldest_first: bool = False,
    ) -> Sequence[Deployment]:
        """All of these statuses, or that are not deleted, and made of the image now; none with an
        owner."""
        where: dict[str, Any] = living(Status.DELETED) | {"owner": None}
        if statuses:
            where["status"] = {"$in": [status.value for status in statuses]}
        if image is not None:
            where["template.spec.image"] = image
        way = 1 if oldest_first else -1
        sort = (("created_at", way), ("_id", way))
        return await self._store.find(Deployment, org=caller.org, where=where, sort=sort)

    async def edit(
        self,
        caller: Principal,
        uuid: str,
        edit: DeploymentEdit,
        *,
        revision: int | None = None,
        own: Mapping[str, str] | None = None,
    ) -> Deployment:
        """Change what is given; another template rolls out. Idempotent. `own`: see `annotated`.

        Raises NotFound, InvalidInput, Conflict while it is being deleted, StaleRevision, and as
        `create` for image and name.
        """
        policy = requests.policy(edit.autoscale)
        made = edit.template and await self._template(caller, edit.template)

        def decide(deployment: Deployment, at: datetime) -> Mapping[str, Any]:
            given = edit.model_dump(exclude_none=True, exclude={"template", "autoscale"})
            now = deployment.annotations
            given["annotations"] = annotated(given.get("annotations", now), own, now)
            if edit.autoscale is not None:
                given["autoscale"] = policy and policy.model_dump(mode="json")
            low = given.get("min_replicas", deployment.min_replicas)
            high = given.get("max_replicas", deployment.max_replicas)
            requests.require_order(low, high)
            values = given | {"replicas": min(max(deployment.replicas, low), high)}
            if made and made.hash != deployment.template.hash:
                values |= retemplated(deployment, requests.numbered(made, deployment), at)
            return values

        try:
            return await self._templated(caller, uuid, "edited", decide, revision)
        except AlreadyExists as error:
            raise AlreadyExists(requests.taken(str(edit.name)), **error.facts) from error

    async def scale(
        self, caller: Principal, uuid: str, replicas: int, *, revision: int | None = None
    ) -> Deployment:
        """Want so many replicas, within `min_replicas` and `max_replicas`. Idempotent.

        Raises NotFound, InvalidInput, StaleRevision, and Conflict also when the number follows the
        load or the clock.
        """

        def decide(deployment: Deployment, at: datetime) -> Mapping[str, Any]:
            if deployment.autoscale is not None and deployment.autoscale.is_automatic:
                raise Conflict(
                    f"The replicas of {deployment.name} are scaled automatically: change"
                    " min_replicas and max_replicas, or end that with an empty autoscale."
                )
            low, high = deployment.min_replicas, deployment.max_replicas
            if not low <= replicas <= high:
                raise InvalidInput(
                    f"{replicas} replicas are not within {low} and {high}: change min_replicas or"
                    " max_replicas first.",
                    field="replicas",
                )
            return {"replicas": replicas}

        return await self._amend(caller, uuid, "scaled", decide, revision)

    async def start(
        self, caller: Principal, uuid: str, *, revision: int | None = None
    ) -> Deployment:
        """Want its replicas again. Idempotent. Raises NotFound, Conflict, StaleRevision."""
        return await self._want(caller, uuid, Desired.RUNNING, "started", revision)

    async def stop(
        self, caller: Principal, uuid: str, *, revision: int | None = None
    ) -> Deployment:
        """Want no replicas until it is started. Idempotent. Raises as `start`."""
        return await self._want(caller, uuid, Desired.STOPPED, "stopped", revision)

    async def restart(
        self, caller: Principal, uuid: str, *, revision: int | None = None, key: str | None = None
    ) -> Deployment:
        """Roll out the same template anew, one replica at a time. Each call is one of its own.

        Idempotent per `key`, among the last `KEPT_ORDERS`. Raises as `start`.
        """

        def decide(deployment: Deployment, at: datetime) -> Mapping[str, Any]:
            template = deployment.template
            again = requests.numbered(
                requests.made(template.spec, at, salt=at.isoformat()), deployment
            )
            return retemplated(deployment, again, at)

        return await self._amend(caller, uuid, "restarted", decide, revision, key)

    async def roll_back(
        self,
        caller: Principal,
        uuid: str,
        generation: int | None = None,
        *,
        revision: int | None = None,
        key: str | None = None,
    ) -> Deployment:
        """Return to an earlier template, the one before by default.

        Idempotent per generation, and per `key` as `restart`. Raises NotFound, also for the
        generation and when its image was deleted, Conflict, StaleRevision.
        """

        def decide(deployment: Deployment, at: datetime) -> Mapping[str, Any]:
            if generation == deployment.template.generation:
                return {}
            for earlier in deployment.history:
                if generation in (None, earlier.generation):
                    return retemplated(deployment, earlier, at)
            wanted = "an earlier template" if generation is None else f"generation {generation}"
            raise NotFound(f"The deployment {deployment.name} does not remember {wanted}.")

        return await self._templated(caller, uuid, "rollback-requested", decide, revision, key)

    async def delete(
        self, caller: Principal, uuid: str, *, revision: int | None = None
    ) -> Deployment:
        """End its replicas, then itself. Idempotent. Raises NotFound, StaleRevision, Conflict for
        one with an owner."""

        def decide(deployment: Deployment, at: datetime) -> Change | None:
            require_revision(deployment, revision)
            if deployment.desired is Desired.DELETED:
                return None
            requests.refuse_owned(deployment)
            return ending(f"deletion requested by {caller.id}")

        deployment = await self._store.get(Deployment, uuid, org=caller.org)
        return await self._records.amend(deployment, decide, actor=caller.id)

    async def _is_used(self, deployment: Deployment, gate: Gate | None = None) -> bool:
        """Mark its image, and what the catalogue says of it, as used after the write: who deletes
        one of them has counted the deployment or fails by the mark. False where it was deleted
        before. `gate`: as known before the write."""
        image, used = deployment.template.spec.image, {"$inc": {"times_used": 1}}
        alive = living(ImageStatus.DELETED)
        found = await self._store.update(Image, image, org=deployment.org, guard=alive, update=used)
        gates = self._containers.gates
        return found is not None and await gates.use(deployment.org, gate or await gates.of(found))

    async def _templated(
        self,
        caller: Principal,
        uuid: str,
        kind: str,
        decide: Decided,
        revision: int | None,
        key: str | None = None,
    ) -> Deployment:
        """As `_amend`, for what may bring another image. Raises NotFound, with all as it was, where
        that was deleted."""
        before = await self.get(caller, uuid)

        def change(deployment: Deployment, at: datetime) -> Mapping[str, Any]:
            nonlocal before
            before = deployment
            return decide(deployment, at)

        made = await self._amend(caller, uuid, kind, change, revision, key)
        image = made.template.spec.image
        if image == before.template.spec.image or await self._is_used(made):
            return made

        def undo(deployment: Deployment, at: datetime) -> Mapping[str, Any]:
            if deployment.template.hash != made.template.hash:
                return {}
            earlier = before.model_dump(mode="json", include=_GIVEN)
            return retemplated(deployment, before.template, at) | earlier

        await self._amend(caller, uuid, "taken-back", undo, None)
        raise requests.gone()

    async def _want(
        self, caller: Principal, uuid: str, desired: Desired, kind: str, revision: int | None
    ) -> Deployment:
        def decide(deployment: Deployment, at: datetime) -> Mapping[str, Any]:
            if deployment.desired is desired:
                return {}
            return {"desired": desired.value, "failures": 0, "replace_at": None}

        return await self._amend(caller, uuid, kind, decide, revision)

    async def _amend(
        self,
        caller: Principal,
        uuid: str,
        kind: str,
        decide: Decided,
        revision: int | None,
        key: str | None = None,
    ) -> Deployment:
        """A `key` is of an order that would have another effect each time: it is remembered."""

        def change(deployment: Deployment, at: datetime) -> Change | None:
            if key in deployment.orders:
                return None
            require_revision(deployment, revision)
            if deployment.desired is Desired.DELETED:
                raise Conflict(f"The deployment {deployment.name} is being deleted.")
            requests.refuse_owned(deployment)
            values = decide(deployment, at)
            known = deployment.model_dump(include=set(values))
            if all(known[name] == value for name, value in values.items()):
                return None
            values = {**values, "idle_at": requests.idle_at(deployment, values, at)}
            if key is not None:
                values["orders"] = [key, *deployment.orders][:KEPT_ORDERS]
            status = under_way(deployment, values)
            return Change(
                values,
                status=None if status is deployment.status else status,
                reason=f"{kind} by {caller.id}",
                send=[event(kind), command(RECONCILE)],
            )

        deployment = await self.get(caller, uuid)
        return await self._records.amend(deployment, change, actor=caller.id)

    async def _template(
        self,
        caller: Principal,
        spec: ContainerSpec,
        generation: int = 0,
        restart: RestartPolicy = RestartPolicy.ALWAYS,
    ) -> Template:
        """Of an image that is READY, by its uuid: a tag that moves on changes no replica."""
        prepared, image = await self._containers.prepared(caller, spec)
        kept = {"image": image.uuid, "restart": restart}
        named = dict.fromkeys(("name", "engine_name"))
        made = requests.made(prepared.model_copy(update=kept | named), self._records.clock())
        return made.model_copy(update={"generation": generation})


def ending(reason: str) -> Change:
    """That a deployment and its replicas end."""
    return Change(
        {"desired": Desired.DELETED.value},
        status=Status.DELETING,
        reason=reason,
        send=[event("deleting"), command(RECONCILE)],
    )
