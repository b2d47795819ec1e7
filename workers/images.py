"""Stages of an image."""

from __future__ import annotations

from pipeline.rules import topology
from pipeline.services import Services
from schemas.commands import ById
from schemas.image import ImageSpec
from workers.broker import YardBroker
from workers.envelope import Command
from workers.intake import stage
from workers.senders import sender
from workers.tries import LastTry


def register(broker: YardBroker, services: Services) -> None:
    """Stages that own no state: everything is in `services`."""

    @stage(broker, topology.IMAGE_CREATE)
    async def create(spec: ImageSpec, command: Command) -> None:
        """Bring an image by reference. The message id is the idempotency key."""
        await services.images.submit(sender(command), spec, key=command.id)

    @stage(broker, topology.IMAGE_VALIDATE)
    async def validate(which: ById, command: Command, last_try: LastTry) -> None:
        """Prove that an image is there, complete and runnable, and pin its digest."""
        org = topology.parse_command(command.subject).org
        await services.validation.validate(org, which.id, last_try=last_try)

    @stage(broker, topology.IMAGE_DELETE)
    async def delete(which: ById, command: Command) -> None:
        """Forget an image that no container uses. Idempotent."""
        await services.images.delete(sender(command), which.id)
