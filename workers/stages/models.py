"""Stages of models: load tests and trial runs from beginning to end, and what answers calls."""

from __future__ import annotations

from typing import Any

from pipeline import topology
from pipeline.access.roles import sender
from pipeline.bootstrap.control_plane import Services
from pipeline.dead_letters import verdicts
from pipeline.models.jobs.job import Job
from schemas.access import Principal
from schemas.commands import VersionOrder
from schemas.message import Message
from schemas.model import ModelVersion
from workers.broker import YardBroker, stage
from workers.middleware import Command, LastTry


def register(broker: YardBroker, services: Services) -> None:
    """Stages that own no state: everything is in `services`."""

    @stage(broker, topology.IMAGE_LOAD)
    async def load(order: VersionOrder, command: Command, last_try: LastTry) -> None:
        """Prove that a container of a version's image starts and answers. It may take long."""
        await _carry_out(services, services.models.load_tests, order, command, last_try)

    @stage(broker, topology.IMAGE_RUN)
    async def run(order: VersionOrder, command: Command, last_try: LastTry) -> None:
        """Run a version with its test input and keep what it gives. It may take long."""
        await _carry_out(services, services.models.trial_runs, order, command, last_try)

    @stage(broker, topology.IMAGE_SERVE)
    async def serve(order: VersionOrder, command: Command) -> None:
        """Have a container brought up that answers calls of a version. Idempotent."""
        if order.attempt is not None:
            return  # what an earlier version ordered, which ended those containers
        asking = sender(command)
        version = await _version(services, asking, order)
        deployment = await services.models.serving.deployment(asking, version)
        await services.deployments.activation.ask(deployment)

    @stage(broker, topology.IMAGE_SHUTDOWN)
    async def shutdown(order: VersionOrder, command: Command) -> None:
        """End the container that answers calls of a version. Idempotent."""
        if order.attempt is None:
            asking = sender(command)
            await services.models.serving.end(asking, await _version(services, asking, order))


async def _version(services: Services, caller: Principal, order: VersionOrder) -> ModelVersion:
    return await services.models.versions.get(caller, order.identifier, order.version)


async def _carry_out(
    services: Services, job: Job[Any], order: VersionOrder, command: Message, last_try: bool
) -> None:
    if order.attempt is None:
        asking = sender(command)
        await job.request(asking, await _version(services, asking, order), key=command.id)
        return
    org = topology.parse_command(command.subject).org
    try:
        await job.carry_out(org, order)
    except Exception as error:
        if last_try or _is_lasting(error):
            await job.give_up(org, order, error)
        raise


def _is_lasting(error: Exception) -> bool:
    """There will be no other try, on whatever stage."""
    return verdicts.attempts_allowed(error, topology.IMAGE_LOAD) == 1
