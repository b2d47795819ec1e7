"""Stages of models: load tests and trial runs, from beginning to end."""

from __future__ import annotations

from pipeline.rules import topology
from pipeline.services import Services
from schemas.commands import VersionOrder
from workers.broker import YardBroker
from workers.envelope import Command
from workers.intake import stage
from workers.senders import sender
from workers.tries import LastTry


def register(broker: YardBroker, services: Services) -> None:
    """Stages that own no state: everything is in `services`."""

    @stage(broker, topology.IMAGE_LOAD)
    async def load(order: VersionOrder, command: Command, last_try: LastTry) -> None:
        """Prove that a container of a version's image starts and answers. It may take long."""
        loads = services.model.loads
        org = topology.parse_command(command.subject).org
        if order.attempt is None:
            await loads.request(sender(command), order.identifier, order.version, key=command.id)
            return
        try:
            await loads.carry_out(org, order)
        except Exception as error:
            if last_try:
                await loads.give_up(org, order, error)
            raise
