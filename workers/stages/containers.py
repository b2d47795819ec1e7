"""Stages of a container, up to the order for its node, and of the nodes themselves."""

from __future__ import annotations

from pipeline import topology
from pipeline.access.roles import sender
from pipeline.bootstrap.control_plane import Services
from schemas.access import Principal
from schemas.commands import ById, ContainerDelete, ContainerReplace
from schemas.container import ContainerSpec
from schemas.message import Message
from workers.broker import YardBroker, stage
from workers.middleware import Command


def register(broker: YardBroker, services: Services) -> None:
    """Stages that own no state: everything is in `services`."""

    @stage(broker, topology.CONTAINER_CREATE)
    async def create(spec: ContainerSpec, command: Command) -> None:
        """Run an image. The message id is the idempotency key."""
        await services.containers.service.run(sender(command), spec, key=command.id)

    @stage(broker, topology.CONTAINER_PLACE)
    async def place(which: ById, command: Command) -> None:
        """Choose a node and lease what the container needs there."""
        org = topology.parse_command(command.subject).org
        await services.placement.service.place(org, which.id)

    @stage(broker, topology.CONTAINER_STOP)
    async def stop(which: ById, command: Command) -> None:
        """Stop a container. Idempotent."""
        await services.containers.service.stop(sender(command), which.id)

    @stage(broker, topology.CONTAINER_START)
    async def start(which: ById, command: Command) -> None:
        """Run a container again that has stopped or failed. Idempotent."""
        await services.containers.service.start(sender(command), which.id)

    @stage(broker, topology.CONTAINER_RESTART)
    async def restart(which: ById, command: Command) -> None:
        """Stop a container and start it again; start it when it has stopped or failed."""
        await services.containers.service.restart(sender(command), which.id)

    @stage(broker, topology.CONTAINER_REPLACE)
    async def replace(order: ContainerReplace, command: Command) -> None:
        """Have a new container take the place of another; whatever fails leaves that as it was. The
        message id is the idempotency key."""
        spec = ContainerSpec.model_validate(order.model_dump(exclude={"id"}, exclude_unset=True))
        service = services.containers.service
        await service.replace(sender(command), order.id, spec, key=command.id)

    @stage(broker, topology.CONTAINER_DELETE)
    async def delete(which: ContainerDelete, command: Command) -> None:
        """Stop and remove a container. Idempotent."""
        await services.containers.service.delete(sender(command), which.id, volumes=which.volumes)


def register_nodes(broker: YardBroker, services: Services) -> None:
    """For automation of the installation's own organisation. `id` is a uuid or a name."""

    def operator(command: Message) -> Principal:
        return sender(command, home=services.settings.org)

    @stage(broker, topology.NODE_CORDON)
    async def cordon(which: ById, command: Command) -> None:
        """Place nothing new on a node. Idempotent."""
        await services.placement.nodes.cordon(operator(command), which.id)

    @stage(broker, topology.NODE_UNCORDON)
    async def uncordon(which: ById, command: Command) -> None:
        """Place containers on a node again. Idempotent."""
        await services.placement.nodes.cordon(operator(command), which.id, cordoned=False)

    @stage(broker, topology.NODE_DRAIN)
    async def drain(which: ById, command: Command) -> None:
        """Empty a node: replicas of deployments move to others. Idempotent."""
        await services.placement.nodes.drain(operator(command), which.id)

    @stage(broker, topology.NODE_RESUME)
    async def resume(which: ById, command: Command) -> None:
        """End the drain of a node. Idempotent."""
        await services.placement.nodes.resume(operator(command), which.id)

    @stage(broker, topology.NODE_DELETE)
    async def delete_node(which: ById, command: Command) -> None:
        """Give up a machine that is LOST."""
        await services.placement.nodes.delete(operator(command), which.id)
