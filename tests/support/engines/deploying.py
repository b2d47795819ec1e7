"""Deployments over a node in memory: a test reconciles, places and hands over when it wants to."""

from __future__ import annotations

from typing import Any

from pipeline.deployments.draining import DrainingNodes
from pipeline.deployments.reconciler import DeploymentReconciler
from pipeline.deployments.service import Deployments
from pipeline.records.kernel import Records
from schemas.base import Fault
from schemas.container import Container
from schemas.deployment import Deployment, DeploymentSpec, ReplicaSpec
from schemas.image import Image
from schemas.states import ContainerStatus as Status
from tests.support.engines.node_rig import ORG, NodeRig

ROUNDS = 30


class AnOwner:
    """Of deployments that have one: does what its values say, and remembers what it was asked."""

    def __init__(self) -> None:
        self.is_in_need = True
        self.grace_s = 0.0
        self.asked_to_end: list[str] = []
        self.told: list[str] = []

    async def want(self, deployment: Deployment) -> bool:
        return self.is_in_need

    async def fault(self, deployment: Deployment, last: Container | None, why: str) -> Fault:
        return Fault(code="crash_loop", message=why, technical=last.uuid if last else "none")

    async def take_leave(self, replica: Container) -> float:
        self.asked_to_end.append(replica.uuid)
        return self.grace_s

    async def tell_end(self, deployment: Deployment, replica: Container) -> None:
        self.told.append(replica.uuid)


class Deploying:
    def __init__(self, rig: NodeRig) -> None:
        self.rig = rig
        self.service = Deployments(rig.records, rig.containers)
        self.owners = AnOwner()
        self.reconciler = self.reconciler_over(rig.records)
        self.draining = DrainingNodes(rig.records, self.reconciler)

    def reconciler_over(self, records: Records) -> DeploymentReconciler:
        return DeploymentReconciler(records, self.rig.containers, self.owners)

    async def template(self, image: Image | None = None, **spec: Any) -> ReplicaSpec:
        image = image or await self.rig.here(await self.rig.image())
        return ReplicaSpec(image=image.uuid, **spec)

    async def create(
        self, replicas: int = 2, template: ReplicaSpec | None = None, **spec: Any
    ) -> Deployment:
        asked = DeploymentSpec(
            name=spec.pop("name", "model"),
            template=template or await self.template(),
            min_replicas=replicas,
            max_replicas=10,
            **{"drain_s": 0} | spec,
        )
        return await self.service.create(self.rig.caller, asked)

    async def deployed(self, replicas: int = 2, **spec: Any) -> Deployment:
        return await self.settled(await self.create(replicas, **spec))

    async def record(self, deployment: Deployment) -> Deployment:
        return await self.rig.store.get(Deployment, deployment.uuid, org=ORG)

    async def containers(self, deployment: Deployment, *statuses: Status) -> list[Container]:
        """Those that are not gone, oldest first."""
        where = {"deployment": deployment.uuid, "status": {"$ne": Status.DELETED.value}}
        found = await self.rig.store.find(Container, org=ORG, where=where, sort=[("replica", 1)])
        return [each for each in found if not statuses or each.status in statuses]

    async def round(self, deployment: Deployment) -> None:
        """One look, and what the rest of the system makes of it."""
        await self.reconciler.reconcile(ORG, deployment.uuid)
        for container in await self.containers(deployment, Status.REQUESTED):
            await self.rig.placing.place(ORG, container.uuid)
        await self.rig.hand_over()

    async def settled(self, deployment: Deployment) -> Deployment:
        """The record once nothing changes any more."""
        for _ in range(ROUNDS):
            before = (await self.record(deployment), await self.containers(deployment))
            await self.round(deployment)
            record = await self.record(deployment)
            if before == (record, await self.containers(deployment)):
                return record
        raise AssertionError(f"it does not settle: {record}")
