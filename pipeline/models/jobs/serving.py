"""The deployment that answers calls of a version: made for the first, in use until another image,
another requirement or a shutdown. `pipeline.deployments` has a replica for whoever calls."""

from __future__ import annotations

import logging
import math
from datetime import datetime

from pipeline import errors
from pipeline.access.roles import acting_for
from pipeline.adapters.store import bulk
from pipeline.adapters.store.store import EVERY_ORG
from pipeline.deployments.service import Deployments
from pipeline.images import delivery_events
from pipeline.models.deliveries import ModelDeliveries, require_complete
from pipeline.models.jobs.job import fault_of, require_loaded
from pipeline.models.runtime.client import ModelClient
from pipeline.models.runtime.container_spec import model_port, spec_for, start_check
from pipeline.models.runtime.readiness import StatusCheck, never_listened
from pipeline.models.runtime.starts import UP, ModelStarts, crashed, not_launched
from pipeline.models.service import deployment_id, load, retired
from pipeline.records.idempotency import new_id
from pipeline.records.kernel import Change, Records, living
from pipeline.settings import Settings
from schemas.access import Principal
from schemas.base import Fault
from schemas.container import Container, Desired
from schemas.deployment import Deployment, DeploymentSpec, Owner, ReplicaSpec
from schemas.image import Image
from schemas.message import Message
from schemas.model import ModelVersion
from schemas.states import DeploymentStatus

log = logging.getLogger(__name__)

PURPOSE = "serve"
LAST_ASK_S = 2.0
"""For what a container that was not ready in time still says of itself."""


class ServedVersions:
    """Every call acts for the organisation of its caller and sees nothing of others."""

    def __init__(
        self,
        records: Records,
        deliveries: ModelDeliveries,
        deployments: Deployments,
        settings: Settings,
    ) -> None:
        self._records = records
        self._store = records.store
        self._deliveries = deliveries
        self._deployments = deployments
        self._idle_s = settings.serve_idle_s
        self._place_s = max(10, math.ceil(settings.load_wait_s))

    async def deployment(self, caller: Principal, version: ModelVersion) -> Deployment:
        """The one that calls go to; made when there is none. Idempotent.

        Raises Conflict without a complete image that has passed its load test.
        """
        image = require_complete(await self._deliveries.current(version))

        def begin(now: ModelVersion, at: datetime) -> Change | None:
            require_loaded(now, image)
            return None if now.serving else Change({"serving": new_id()})

        while True:
            version = await self._records.amend(version, begin, actor=caller.id)
            serving = version.serving or ""
            uuid, spec = deployment_id(version.org, serving), self._spec(version, image)
            known = await self._store.find_by_id(Deployment, uuid, org=version.org)
            if known is None:
                owner = Owner(model=version.model, version=version.version)
                acting = acting_for(version.org, caller.id)
                return await self._deployments.create(acting, spec, key=serving, owner=owner)
            if known.desired is not Desired.DELETED and (known.wanted or _is_as(spec, known)):
                return known
            version = await self.end(caller, version, only=serving)

    async def end(
        self, caller: Principal, version: ModelVersion, *, only: str | None = None
    ) -> ModelVersion:
        """Take the deployment out of use, if there is one; with `only`, if it is still that one.

        Its replica is asked to end and removed; calls under way may fail. Idempotent.
        """

        def decide(now: ModelVersion, at: datetime) -> Change | None:
            if now.serving is None or only not in (None, now.serving):
                return None
            return retired(now)

        return await self._records.amend(version, decide, actor=caller.id)

    async def ending(self, version: ModelVersion) -> list[Deployment]:
        """Those that are out of use and not gone yet."""
        own = {"owner.model": version.model, "owner.version": version.version}
        where = living(DeploymentStatus.DELETED, **own)
        found = await self._store.find(Deployment, org=version.org, where=where, sort=())
        used = deployment_id(version.org, version.serving or "")
        return [each for each in found if each.uuid != used]

    def _spec(self, version: ModelVersion, image: Image) -> DeploymentSpec:
        made = spec_for(version, image, requirement=version.requirement, purpose=PURPOSE)
        health = start_check(made, version.timeouts.status_ms / 1000)
        template = ReplicaSpec(**{**dict(made), "health": health})
        return DeploymentSpec(
            name=f"{version.model}-{version.version}-{(version.serving or '')[:8]}",
            template=template,
            min_replicas=0,
            max_replicas=1,
            rollout_timeout_s=self._place_s,
            idle_s=self._idle_s,
        )


def _is_as(spec: DeploymentSpec, known: Deployment) -> bool:
    """What a version or a setting may have changed since, which counts from the next start on."""
    now = (spec.idle_s, spec.rollout_timeout_s, spec.template.health)
    return now == (known.idle_s, known.rollout_timeout_s, known.template.spec.health)


class DeploymentOwners:
    """What versions of models say about the deployments that answer their calls."""

    def __init__(
        self,
        records: Records,
        deliveries: ModelDeliveries,
        starts: ModelStarts,
        client: ModelClient,
        settings: Settings,
    ) -> None:
        self._records = records
        self._store = records.store
        self._deliveries = deliveries
        self._starts = starts
        self._client = client
        self._stop_grace_s = settings.stop_grace_s

    async def want(self, deployment: Deployment) -> bool:
        """While its version uses it and the image is there."""
        version = await self._version(deployment)
        if version is None or version.serving is None:
            return False
        is_used = deployment_id(version.org, version.serving) == deployment.uuid
        return is_used and await self._deliveries.current(version) is not None

    async def fault(self, deployment: Deployment, last: Container | None, why: str) -> Fault:
        """In the words of a load test that failed so."""
        return fault_of(await self._refused(deployment, last, why))

    async def take_leave(self, replica: Container) -> float:
        """`POST /shutdown`, and time for it where the model agrees."""
        if replica.status not in UP:
            return 0
        refused = await self._client.shut_down(replica)
        if refused is None:
            return self._stop_grace_s
        log.info("container %s did not agree to end: %s", replica.uuid, refused)
        return 0

    async def tell_end(self, deployment: Deployment, replica: Container) -> None:
        """The event `container.stopped` of the image."""
        version = await self._version(deployment)
        if version is None or replica.node is None:
            return
        image = await self._store.get(Image, replica.image, org=replica.org)
        about = delivery_events.about(image, "container.stopped")

        def once(version: ModelVersion, at: datetime, actor: str | None) -> Message:
            return about(version, at, actor).model_copy(update={"id": f"{replica.uuid}.stopped"})

        told = Change({}, send=[once])
        await self._records.amend(version, lambda _now, _at: told)

    async def _version(self, deployment: Deployment) -> ModelVersion | None:
        owner = deployment.owner
        assert owner is not None, "only deployments with an owner come here"
        try:
            return await load(self._store, deployment.org, owner.model, owner.version)
        except errors.NotFound:
            return None

    async def _refused(
        self, deployment: Deployment, last: Container | None, why: str
    ) -> errors.ModelRefused:
        version = await self._version(deployment)
        if last is None or version is None:
            return not_launched(why)
        if last.node is None and last.refusals:
            image = await self._store.get(Image, last.image, org=last.org)
            return await self._starts.unplaced(last, image, version.requirement)
        check = deployment.template.spec.health
        assert check is not None, "models are asked whether they have started"
        if last.exit_code is None and last.status not in UP:
            return not_launched(last.reason or why)
        lines = await self._client.last_lines(acting_for(last.org, None), last)
        if last.exit_code is not None:
            return crashed(last, check.start_period_s, lines)
        return await self._unanswered(last, check.start_period_s, lines)

    async def _unanswered(
        self, container: Container, timeout_s: float, lines: str
    ) -> errors.ModelRefused:
        """What its status was until the time was over."""
        check = StatusCheck(self._client, container, timeout_s=timeout_s)
        error: errors.ModelRefused = never_listened(model_port(container.spec), timeout_s)
        try:
            await check.until_ready(LAST_ASK_S)
        except errors.ModelRefused as refused:
            error = refused
        error.facts["technical"] = f"{check.answered}\n{lines}"
        return error


class EarlierServing:
    """Containers that answered calls before deployments did."""

    def __init__(self, records: Records, starts: ModelStarts) -> None:
        self._store = records.store
        self._starts = starts

    async def end(self) -> None:
        """Have them removed: the next call gets a replica. Idempotent, safe to run concurrently."""
        where = {"serve.phase": {"$exists": True}}
        fields = ("org", "serve.id", "ending.id")
        for found in await bulk.read_fields(
            self._store, ModelVersion, fields, org=EVERY_ORG, where=where
        ):
            uuid, org = found["_id"], found["org"]
            for start in (found["serve"], *found.get("ending", ())):
                await self._starts.remove(acting_for(org, None), start.get("id"))
            forget = {"$unset": {"serve": "", "ending": ""}}
            await self._store.update(ModelVersion, uuid, org=org, guard={}, update=forget)
