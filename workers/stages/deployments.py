"""Stages of a deployment: what is asked for, and the hints to look at it again."""

from __future__ import annotations

from pydantic import BaseModel

from pipeline import topology
from pipeline.access.roles import sender
from pipeline.bootstrap.control_plane import Services
from schemas.commands import ById, DeploymentRollback, DeploymentUpdate
from schemas.deployment import DeploymentEdit, DeploymentSpec
from workers.broker import YardBroker, stage
from workers.middleware import Command


class ReplicaHint(BaseModel):
    """Of an event about a container: the deployment that it is a replica of."""

    org: str
    deployment: str | None = None


def register(broker: YardBroker, services: Services) -> None:
    """Stages that own no state: everything is in `services`."""
    _take_orders(broker, services)
    _follow(broker, services)


def _take_orders(broker: YardBroker, services: Services) -> None:
    @stage(broker, topology.DEPLOYMENT_CREATE)
    async def create(spec: DeploymentSpec, command: Command) -> None:
        """Keep replicas of an image answering. The message id is the idempotency key."""
        await services.deployments.service.create(sender(command), spec, key=command.id)

    @stage(broker, topology.DEPLOYMENT_UPDATE)
    async def update(order: DeploymentUpdate, command: Command) -> None:
        """Edit a deployment, or scale it. Idempotent."""
        given = order.model_dump(include=set(DeploymentEdit.model_fields), exclude_unset=True)
        service, caller = services.deployments.service, sender(command)
        await service.edit(caller, order.id, DeploymentEdit.model_validate(given))
        if order.replicas is not None:
            await service.scale(caller, order.id, order.replicas)

    @stage(broker, topology.DEPLOYMENT_START)
    async def start(which: ById, command: Command) -> None:
        """Want its replicas again. Idempotent."""
        await services.deployments.service.start(sender(command), which.id)

    @stage(broker, topology.DEPLOYMENT_STOP)
    async def stop(which: ById, command: Command) -> None:
        """Want no replicas. Idempotent."""
        await services.deployments.service.stop(sender(command), which.id)

    @stage(broker, topology.DEPLOYMENT_RESTART)
    async def restart(which: ById, command: Command) -> None:
        """Roll out the same template anew. The message id is the idempotency key."""
        await services.deployments.service.restart(sender(command), which.id, key=command.id)

    @stage(broker, topology.DEPLOYMENT_ROLLBACK)
    async def roll_back(order: DeploymentRollback, command: Command) -> None:
        """Return to an earlier template. The message id is the idempotency key."""
        service, caller = services.deployments.service, sender(command)
        await service.roll_back(caller, order.id, order.generation, key=command.id)

    @stage(broker, topology.DEPLOYMENT_DELETE)
    async def delete(which: ById, command: Command) -> None:
        """End a deployment and its replicas. Idempotent."""
        await services.deployments.service.delete(sender(command), which.id)


def _follow(broker: YardBroker, services: Services) -> None:
    @stage(broker, topology.DEPLOYMENT_RECONCILE)
    async def reconcile(which: ById, command: Command) -> None:
        """Bring a deployment nearer to what is wanted. Idempotent."""
        await services.deployments.reconciler.reconcile(
            topology.parse_command(command.subject).org, which.id
        )

    @stage(broker, topology.REPLICAS)
    async def follow(hint: ReplicaHint) -> None:
        """Look at the deployment whose replica has changed. Idempotent."""
        if hint.deployment is not None:
            await services.deployments.reconciler.reconcile(hint.org, hint.deployment)
