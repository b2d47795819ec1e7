"""Stages of the registry directory."""

from __future__ import annotations

from typing import Any

from pipeline.rules import strict_json, topology
from pipeline.services import Services
from schemas.commands import ById, RegistryCheck, RegistryDraft, RegistryUpdate
from workers.broker import YardBroker
from workers.envelope import Command
from workers.intake import stage
from workers.senders import sender


def register(broker: YardBroker, services: Services) -> None:
    """Stages that own no state: everything is in `services`."""

    @stage(broker, topology.REGISTRY_CREATE)
    async def create(draft: RegistryDraft, command: Command) -> None:
        """Enter a registry into the directory. The message id is the idempotency key."""
        await services.directory.entries.create(
            sender(command), _checked(draft.sent), key=command.id
        )

    @stage(broker, topology.REGISTRY_UPDATE)
    async def update(which: RegistryUpdate, command: Command) -> None:
        """Change an entry. The message id keeps it from being applied twice."""
        body = _checked(which.update)
        await services.directory.entries.update(sender(command), which.id, body, key=command.id)

    @stage(broker, topology.REGISTRY_DELETE)
    async def delete(which: ById, command: Command) -> None:
        """Remove an entry. Idempotent."""
        await services.directory.entries.delete(sender(command), which.id, key=command.id)

    @stage(broker, topology.REGISTRY_HEALTH)
    async def health(order: RegistryCheck, command: Command) -> None:
        """Look at a registry and record what is found."""
        await services.directory.checks.carry_out(sender(command), order, key=command.id)


def _checked(body: dict[str, Any]) -> dict[str, Any]:
    """What came by queue has to be as strict JSON as what comes by HTTP."""
    strict_json.check(body)
    return body
