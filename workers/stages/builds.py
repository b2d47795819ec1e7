"""Stages of builds, beside what the agent of a node does."""

from __future__ import annotations

from pipeline import topology
from pipeline.access.roles import sender
from pipeline.bootstrap.control_plane import Services
from schemas.commands import ById
from schemas.image import BuildSpec
from workers.broker import YardBroker, stage
from workers.middleware import Command, LastTry


def register(broker: YardBroker, services: Services) -> None:
    """Stages that own no state: everything is in `services`."""

    @stage(broker, topology.BUILD_CREATE)
    async def create(spec: BuildSpec, command: Command) -> None:
        """Build an image from a folder of a node, or a repository. The message id is the
        idempotency key."""
        await services.builds.service.create(sender(command), spec, key=command.id)

    @stage(broker, topology.BUILD_PUBLISH)
    async def publish(which: ById, command: Command, last_try: LastTry) -> None:
        """Bring a built image into the platform's registry, and list it. It may take long."""
        org = topology.parse_command(command.subject).org
        await services.builds.publishing.publish(org, which.id, last_try=last_try)

    @stage(broker, topology.BUILD_CANCEL)
    async def cancel(which: ById, command: Command) -> None:
        """End a build that is not built yet. Idempotent."""
        await services.builds.service.cancel(sender(command), which.id)
