"""Makes the containers of a deployment follow its record. Safe to run twice, also at once."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, Protocol

from pipeline.access.roles import acting_for
from pipeline.adapters.store.indexes import SOME_TIME
from pipeline.adapters.store.store import EVERY_ORG
from pipeline.containers import specs
from pipeline.containers.observation import OVER
from pipeline.containers.service import Containers
from pipeline.deployments.decision import Health, Replica, decide, replica_of
from pipeline.deployments.service import RECONCILE, ending
from pipeline.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    LostRace,
    NotFound,
    NotReady,
    QuotaExceeded,
    YardError,
)
from pipeline.organisations.quotas import Quotas
from pipeline.records.idempotency import id_for
from pipeline.records.kernel import Change, Records
from pipeline.records.messages import command, event
from pipeline.records.sweeping import one_by_one
from pipeline.telemetry import caused_by, in_trace
from schemas.access import Principal
from schemas.base import Fault
from schemas.container import Container, Desired
from schemas.deployment import Deployment, Slot, Template
from schemas.node import Node
from schemas.states import ContainerStatus
from schemas.states import DeploymentStatus as Status

log = logging.getLogger(__name__)

STEPS: Final = 10
"""Of one look; what is left is done at the next hint."""
UNSETTLED: Final = (Status.DEPLOYING, Status.DEGRADED, Status.FAILED, Status.DELETING)
REFUSALS: Final = (NotFound, NotReady, Conflict, InvalidInput)
"""Of a launch: the image is gone, or not what it was. Whatever else fails is tried again."""


class Owners(Protocol):
    """What is up to those whom deployments belong to (`Deployment.owner`)."""

    async def want(self, deployment: Deployment) -> bool:
        """False: it ends."""
        ...

    async def fault(self, deployment: Deployment, last: Container | None, why: str) -> Fault:
        """What callers are told when no replica could be brought up. `last`: its container."""
        ...

    async def take_leave(self, replica: Container) -> float:
        """Ask it to end by itself; seconds that it has for that."""
        ...

    async def tell_end(self, deployment: Deployment, replica: Container) -> None:
        """Of one that is about to be removed. Idempotent."""
        ...


class DeploymentReconciler:
    """Hints say when to look: commands, events of containers, a sweep. Records say what to do."""

    def __init__(self, records: Records, containers: Containers, owners: Owners) -> None:
        self._records = records
        self._store = records.store
        self._containers = containers
        self._owners = owners
        self._quotas = Quotas(records)

    async def reconcile(self, org: str, uuid: str) -> None:
        """Bring one as far as it gets now. Of an unknown one nothing is left to do."""
        where = {"_id": uuid}
        deployment = await self._store.find_one(Deployment, org=org, where=where)
        refused: list[Replica] = []
        for _ in range(STEPS):
            if deployment is None:
                return
            if deployment.status is Status.DELETED:
                await self._end_late_ones(deployment)
                return
            revision = deployment.revision
            look = _Look(refused)
            # What follows names the newest command of its owner, which its record knows, and
            # neither a hint that came late nor nothing, as after a sweep.
            with caused_by(None), in_trace(None):
                deployment = await self._records.amend(deployment, partial(self._decide, look))
            with caused_by(deployment.cause), in_trace(deployment.traceparent):
                refused = await self._follow(deployment, look)
            if deployment.revision == revision and not refused:
                return

    async def sweep(self) -> None:
        """Look at those that wait for something, of which no hint may come: a delay, a limit."""
        where = {"status": {"$in": [status.value for status in UNSETTLED]}}
        await self._look_at_all(where)
        drained = {"$gt": SOME_TIME, "$lte": self._records.clock()}
        due = {"drain_until": drained, "desired": Desired.RUNNING.value}
        for replica in await self._store.find(Container, org=EVERY_ORG, where=due, sort=()):
            await self.try_to_reconcile(replica.org, replica.deployment or "")

    async def sweep_idle(self) -> None:
        """End the replicas of those that nobody has called for long enough."""
        idle = {"$gt": SOME_TIME, "$lte": self._records.clock()}
        where = {"idle_at": idle, "desired": Desired.RUNNING.value}
        found = await self._store.find(Deployment, org=EVERY_ORG, where=where, sort=())
        await one_by_one(found, lambda each: self._records.amend(each, _rested))

    async def sweep_settled(self) -> None:
        """Look at all others, should a hint have been lost."""
        settled = [each.value for each in Status if each not in (*UNSETTLED, Status.DELETED)]
        await self._look_at_all({"status": {"$in": settled}})

    async def _look_at_all(self, where: Mapping[str, Any]) -> None:
        for deployment in await self._store.find(Deployment, org=EVERY_ORG, where=where):
            await self.try_to_reconcile(deployment.org, deployment.uuid)

    async def try_to_reconcile(self, org: str, uuid: str) -> None:
        """One that cannot be brought on now must not hold up those of others."""
        try:
            await self.reconcile(org, uuid)
        except YardError as error:
            log.warning("deployment %s is looked at again later: %s", uuid, error.message)
        except Exception:
            log.exception("deployment %s is looked at again later", uuid)

    async def _decide(self, look: _Look, deployment: Deployment, at: datetime) -> Change | None:
        look.containers = await self._containers_of(deployment)
        is_owned = deployment.owner is not None and deployment.desired is not Desired.DELETED
        if is_owned and not await self._owners.want(deployment):
            return ending("its version has no use for it any more")
        numbers = {slot.number for slot in deployment.slots}
        drained = await self._drained(look.containers.values())
        replicas = [
            replica_of(number, container, leaves=drained.get(container.node or ""))
            for number, container in look.containers.items()
            if number in numbers or container.status is not ContainerStatus.DELETED
        ]
        look.waiting = await self._waiting(deployment, look.containers)
        decision = decide(deployment, replicas + look.refused + look.waiting, at)
        if decision is None:
            return None
        values = dict(decision.values)
        if deployment.owner and decision.event == "failed":
            # Before it is removed, and its log with it.
            last = look.containers.get(max(numbers, default=0))
            fault = await self._owners.fault(deployment, last, decision.reason or "")
            values["fault"] = fault.model_dump()
        return Change(
            values,
            status=None if decision.status is deployment.status else decision.status,
            reason=decision.reason,
            send=[event(decision.event, **decision.facts)] if decision.event else [],
        )

    async def _containers_of(self, deployment: Deployment) -> dict[int, Container]:
        """By number: of every slot, and those that are not gone yet."""
        own = [_container_id(deployment, slot) for slot in deployment.slots]
        alive = {"status": {"$ne": ContainerStatus.DELETED.value}, "deployment": deployment.uuid}
        where = {"$or": [{"_id": {"$in": own}}, alive]}
        found = await self._store.find(Container, org=deployment.org, where=where)
        return {each.replica: each for each in found if each.replica is not None}

    async def _drained(self, containers: Collection[Container]) -> dict[str, str]:
        """Uuid → name of those of their nodes that are being drained."""
        ids = sorted({each.node for each in containers if each.node})
        where = {"_id": {"$in": ids}, "drain.since": {"$gt": SOME_TIME}}
        found = await self._store.find(Node, org=EVERY_ORG, where=where, sort=()) if ids else []
        return {node.uuid: node.name for node in found}

    async def _waiting(
        self, deployment: Deployment, containers: Mapping[int, Container]
    ) -> list[Replica]:
        """Replicas for which the organisation's quotas leave no room at the moment."""
        waiting = []
        for slot in deployment.slots:
            if slot.number not in containers and (template := _template(deployment, slot)):
                id, wanted = _container_id(deployment, slot), specs.amounts(template.spec)
                if why := await self._quotas.refusal(deployment.org, id, wanted):
                    waiting.append(Replica(slot.number, Health.WAITING, why))
        return waiting

    async def _follow(self, deployment: Deployment, look: _Look) -> list[Replica]:
        """Make what is missing and end what is too much. Returns the replicas that cannot be."""
        numbers = {slot.number for slot in deployment.slots}
        for number, container in look.containers.items():
            if number not in numbers and container.desired is not Desired.DELETED:
                await self._end(deployment, container)
        refused = []
        known = look.containers.keys() | {replica.number for replica in look.waiting}
        for slot in deployment.slots:
            if slot.number not in known:
                try:
                    await self._make(deployment, slot)
                except QuotaExceeded:
                    # Somebody else took what was left: seen as such with the next look.
                    continue
                except REFUSALS as error:
                    log.warning("replica %s of %s: %s", slot.number, deployment.name, error)
                    # The next one has another name.
                    is_excused = isinstance(error, AlreadyExists | LostRace)
                    why = error.message
                    refused.append(Replica(slot.number, Health.OVER, why, is_excused=is_excused))
        return refused

    async def _end_late_ones(self, deployment: Deployment) -> None:
        """What a worker that was slow, or killed and awake again, made after the deletion."""
        late = {"deployment": deployment.uuid, "desired": {"$ne": Desired.DELETED.value}}
        for replica in await self._store.find(Container, org=deployment.org, where=late):
            await self._containers.delete(_acting(deployment), replica.uuid)

    async def _end(self, deployment: Deployment, replica: Container) -> None:
        """Once it has had the time to finish its calls; at once when it has none to finish."""
        now, until = self._records.clock(), replica.drain_until
        if until is None and (leave_s := await self._leave_s(deployment, replica)):
            until = now + timedelta(seconds=leave_s)
            await self._records.commit(
                replica, Change({"drain_until": until}, send=[event("draining")])
            )
        elif until is None or until <= now or replica.status in OVER:
            if deployment.owner:
                await self._owners.tell_end(deployment, replica)
            await self._containers.delete(_acting(deployment), replica.uuid)

    async def _leave_s(self, deployment: Deployment, replica: Container) -> float:
        if deployment.owner:
            return await self._owners.take_leave(replica)
        return deployment.drain_s if replica.healthy_since else 0

    async def _make(self, deployment: Deployment, slot: Slot) -> None:
        """Idempotent: a repeat, or another worker, meets the same container."""
        template = _template(deployment, slot)
        if template is None:
            raise NotFound("its template is forgotten")
        name = re.sub("[^a-zA-Z0-9_.-]+", "-", deployment.name).lstrip("_.-") or "deployment"
        name = f"{name[:200]}-{slot.number}-{deployment.uuid[:8]}"
        await self._containers.run(
            _acting(deployment),
            template.spec.model_copy(update={"name": name}),
            key=_key(deployment, slot),
            replica_of=(deployment.uuid, slot.number),
        )


def _acting(deployment: Deployment) -> Principal:
    return acting_for(deployment.org, f"deployment:{deployment.uuid}")


def _rested(now: Deployment, at: datetime) -> Change | None:
    if now.idle_at is None or now.idle_at > at:
        return None
    if now.rests_after_s is None or not now.wanted:
        return Change({"idle_at": None})
    # A call is told without a new revision.
    return Change(
        {"replicas": 0, "idle_at": None},
        status=Status.SCALED_DOWN,
        reason=f"nobody called it for {now.rests_after_s:g} s",
        send=[event("rested"), command(RECONCILE)],
        guard={"idle_at": now.idle_at},
    )


class _Look:
    """What one decision saw."""

    def __init__(self, refused: list[Replica]) -> None:
        self.refused = refused
        self.containers: dict[int, Container] = {}
        self.waiting: list[Replica] = []


def _template(deployment: Deployment, slot: Slot) -> Template | None:
    known = (deployment.template, *deployment.history)
    return next((each for each in known if each.hash == slot.template), None)


def _key(deployment: Deployment, slot: Slot) -> str:
    return f"deployment {deployment.uuid} {slot.number}"


def _container_id(deployment: Deployment, slot: Slot) -> str:
    return id_for(deployment.org, Container.resource, _key(deployment, slot))
