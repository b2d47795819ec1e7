"""Stages of the registry directory and of the secrets of registries."""

from __future__ import annotations

import asyncio
from typing import Any

from pipeline import strict_json, topology
from pipeline.access.roles import sender
from pipeline.bootstrap.control_plane import Services
from pipeline.registries import wire
from schemas.commands import ById, RegistryCheck, RegistryDraft, RegistryUpdate
from workers.broker import YardBroker, stage
from workers.middleware import Command


def register(broker: YardBroker, services: Services) -> None:
    """Stages that own no state: everything is in `services`."""

    @stage(broker, topology.REGISTRY_CREATE)
    async def create(draft: RegistryDraft, command: Command) -> None:
        """Enter a registry into the directory. The message id is the idempotency key."""
        asked = wire.read(_checked(draft.sent))
        with wire.errors():
            await services.registries.service.create(sender(command), asked, key=command.id)

    @stage(broker, topology.REGISTRY_UPDATE)
    async def update(which: RegistryUpdate, command: Command) -> None:
        """Change an entry. The message id keeps it from being applied twice."""
        edit = await asyncio.to_thread(wire.read_update, _checked(which.update))
        with wire.errors():
            await services.registries.service.update(
                sender(command), which.id, edit, key=command.id
            )

    @stage(broker, topology.REGISTRY_DELETE)
    async def delete(which: ById, command: Command) -> None:
        """Remove an entry. Idempotent."""
        await services.registries.service.delete(sender(command), which.id, key=command.id)

    @stage(broker, topology.REGISTRY_HEALTH)
    async def health(order: RegistryCheck, command: Command) -> None:
        """Look at a registry and record what is found."""
        await services.registries.checks.carry_out(sender(command), order, key=command.id)

    @stage(broker, topology.SECRET_CHECK)
    async def check_secret(which: ById, command: Command) -> None:
        """Try new credentials once and record the finding. Idempotent."""
        org = topology.parse_command(command.subject).org
        await services.secrets.logins.test(org, which.id)


def _checked(body: dict[str, Any]) -> dict[str, Any]:
    """What came by queue has to be as strict JSON as what comes by HTTP."""
    strict_json.check(body)
    return body
