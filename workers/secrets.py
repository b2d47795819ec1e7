"""Stages of registry secrets."""

from __future__ import annotations

from pipeline.rules import topology
from pipeline.services import Services
from schemas.commands import ById
from workers.broker import YardBroker
from workers.envelope import Command
from workers.intake import stage


def register(broker: YardBroker, services: Services) -> None:
    """Stages that own no state: everything is in `services`."""

    @stage(broker, topology.SECRET_CHECK)
    async def check(which: ById, command: Command) -> None:
        """Try new credentials once and record the finding. Idempotent."""
        org = topology.parse_command(command.subject).org
        await services.secret_logins.test(org, which.id)
