"""Stages of a container, up to the order for its node."""

from __future__ import annotations

from pipeline.rules import topology
from pipeline.services import Services
from schemas.commands import ById
from schemas.container import ContainerSpec
from workers.broker import YardBroker
from workers.envelope import Command
from workers.intake import stage
from workers.senders import sender


def register(broker: YardBroker, services: Services) -> None:
    """Stages that own no state: everything is in `services`."""

    @stage(broker, topology.CONTAINER_CREATE)
    async def create(spec: ContainerSpec, command: Command) -> None:
        """Run an image. The message id is the idempotency key."""
        await services.containers.run(sender(command), spec, key=command.id)

    @stage(broker, topology.CONTAINER_PLACE)
    async def place(which: ById, command: Command) -> None:
        """Choose a node and lease what the container needs there."""
        org = topology.parse_command(command.subject).org
        await services.placing.place(org, which.id)

    @stage(broker, topology.CONTAINER_STOP)
    async def stop(which: ById, command: Command) -> None:
        """Stop a container. Idempotent."""
        await services.containers.stop(sender(command), which.id)

    @stage(broker, topology.CONTAINER_DELETE)
    async def delete(which: ById, command: Command) -> None:
        """Stop and remove a container. Idempotent."""
        await services.containers.delete(sender(command), which.id)
