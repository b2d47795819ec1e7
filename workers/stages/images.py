"""Stages of an image."""

from __future__ import annotations

from pipeline import topology
from pipeline.access.roles import sender
from pipeline.bootstrap.control_plane import Services
from schemas.commands import ById
from schemas.image import ImageSpec
from workers.broker import YardBroker, stage
from workers.middleware import Command, LastTry


def register(broker: YardBroker, services: Services) -> None:
    """Stages that own no state: everything is in `services`."""

    @stage(broker, topology.IMAGE_CREATE)
    async def create(spec: ImageSpec, command: Command) -> None:
        """Bring an image by reference. The message id is the idempotency key."""
        await services.images.service.submit(sender(command), spec, key=command.id)

    @stage(broker, topology.IMAGE_VALIDATE)
    async def validate(which: ById, command: Command, last_try: LastTry) -> None:
        """Prove that an image is there, complete and runnable, and pin its digest."""
        org = topology.parse_command(command.subject).org
        await services.images.validation.validate(org, which.id, last_try=last_try)

    @stage(broker, topology.IMAGE_DELETE)
    async def delete(which: ById, command: Command) -> None:
        """Forget an image that no container uses. Idempotent."""
        await services.images.service.delete(sender(command), which.id)

    @stage(broker, topology.IMAGE_SUPERSEDE)
    async def supersede(which: ById, command: Command) -> None:
        """Let a READY image have its name, unless somebody chose it for another. Idempotent."""
        org = topology.parse_command(command.subject).org
        await services.images.service.supersede(org, which.id)
