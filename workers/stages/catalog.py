"""Stages of the catalogue of Docker images."""

from __future__ import annotations

from pipeline import strict_json, topology
from pipeline.access.roles import sender
from pipeline.bootstrap.control_plane import Services
from schemas.commands import (
    ById,
    CatalogDraft,
    CatalogForget,
    CatalogSettle,
    CatalogUpdate,
    CatalogValidate,
)
from workers.broker import YardBroker, stage
from workers.middleware import Command


def register(broker: YardBroker, services: Services) -> None:
    """Stages that own no state: everything is in `services`. `id` is the `pk` of an entry."""

    @stage(broker, topology.CATALOG_CREATE)
    async def create(draft: CatalogDraft, command: Command) -> None:
        """Enter an image into the catalogue. The message id is the idempotency key."""
        sent = draft.sent
        strict_json.check(sent)
        await services.catalog.service.create(sender(command), sent, key=command.id)

    @stage(broker, topology.CATALOG_UPDATE)
    async def update(which: CatalogUpdate, command: Command) -> None:
        """Change the fields of an entry that are sent. Idempotent."""
        strict_json.check(which.update)
        service = services.catalog.service
        entry = await service.called(sender(command), which.id)
        await service.update(sender(command), entry.pk, which.update, partial=True)

    @stage(broker, topology.CATALOG_DELETE)
    async def delete(which: ById, command: Command) -> None:
        """Remove an entry that nothing uses. Idempotent."""
        await services.catalog.service.delete_called(sender(command), which.id)

    @stage(broker, topology.CATALOG_VALIDATE)
    async def validate(which: CatalogValidate, command: Command) -> None:
        """Have the image of an entry proved and compared with it."""
        org = topology.parse_command(command.subject).org
        await services.catalog.validation.validate(org, which.id, edition=which.edition)

    @stage(broker, topology.CATALOG_SETTLE)
    async def settle(which: CatalogSettle, command: Command) -> None:
        """Record what became of the image of an entry. Idempotent."""
        org = topology.parse_command(command.subject).org
        await services.catalog.validation.settle(org, which.id, which.image)

    @stage(broker, topology.CATALOG_FORGET)
    async def forget(which: CatalogForget, command: Command) -> None:
        """Delete the image and the credentials that an entry needs no more. Idempotent."""
        org = topology.parse_command(command.subject).org
        await services.catalog.validation.forget(org, which.image, which.secret)
