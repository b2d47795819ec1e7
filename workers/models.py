"""Stages of models: load tests, trial runs and what answers calls, from beginning to end."""

from __future__ import annotations

from pipeline.core.load_process import LoadProcess
from pipeline.core.run_process import RunProcess
from pipeline.core.serve_process import ServeProcess
from pipeline.rules import delivery, topology
from pipeline.services import Services
from schemas.commands import VersionOrder
from schemas.message import Message
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
        await _carry_out(services.model.loads, order, command, last_try)

    @stage(broker, topology.IMAGE_RUN)
    async def run(order: VersionOrder, command: Command, last_try: LastTry) -> None:
        """Run a version with its test input and keep what it gives. It may take long."""
        await _carry_out(services.model.runs, order, command, last_try)

    @stage(broker, topology.IMAGE_SERVE)
    async def serve(order: VersionOrder, command: Command, last_try: LastTry) -> None:
        """Bring up the container that answers calls of a version. It may take long."""
        await _carry_out(services.model.serves, order, command, last_try)

    @stage(broker, topology.IMAGE_SHUTDOWN)
    async def shutdown(order: VersionOrder, command: Command) -> None:
        """End the container that answers calls of a version."""
        if order.attempt is None:
            await services.model.serves.end(sender(command), order.identifier, order.version)
        else:
            org = topology.parse_command(command.subject).org
            await services.model.endings.carry_out(org, order)


async def _carry_out(
    process: LoadProcess | RunProcess | ServeProcess,
    order: VersionOrder,
    command: Message,
    last_try: bool,
) -> None:
    if order.attempt is None:
        asking = sender(command)
        await process.request(asking, order.identifier, order.version, key=command.id)
        return
    org = topology.parse_command(command.subject).org
    try:
        await process.carry_out(org, order)
    except Exception as error:
        if last_try or _is_lasting(error):
            await process.give_up(org, order, error)
        raise


def _is_lasting(error: Exception) -> bool:
    """There will be no other try, on whatever stage."""
    return delivery.attempts_allowed(error, topology.IMAGE_LOAD) == 1
