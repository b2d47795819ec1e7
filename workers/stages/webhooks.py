"""Stages of webhooks: events become deliveries, and deliveries are sent."""

from __future__ import annotations

from pipeline import topology
from pipeline.bootstrap.control_plane import Services
from pipeline.webhooks.service import reader
from schemas.commands import ById
from schemas.webhook import Webhook
from workers.broker import StageSubscriber, YardBroker, add_stage, stage
from workers.middleware import Command, Received


def register(broker: YardBroker, services: Services) -> None:
    """Stages that own no state: everything is in `services`."""

    @stage(broker, topology.WEBHOOK_DELIVER)
    async def deliver(which: ById, command: Command) -> None:
        """Send what waits about one record. Idempotent; what fails has its own next time."""
        org = topology.parse_command(command.subject).org
        await services.webhooks.deliveries.deliver(org, which.id)


class WebhookReaders:
    """One stage per active webhook: it takes the events of the organisation, in their order."""

    def __init__(self, broker: YardBroker, services: Services) -> None:
        self._broker = broker
        self._bus = services.bus
        self._webhooks = services.webhooks.service
        self._deliveries = services.webhooks.deliveries
        self._reading: dict[tuple[str, int], StageSubscriber] = {}

    async def sweep(self) -> None:
        """Read for those that are new or active again, and no more for others. Idempotent.

        Raises BusUnavailable, StoreUnavailable.
        """
        wanted = {(each.uuid, each.turn): each for each in await self._webhooks.active()}
        for key in self._reading.keys() - wanted.keys():
            await self._reading.pop(key).stop()
        for key in wanted.keys() - self._reading.keys():
            self._reading[key] = await self._begin(wanted[key])

    async def _begin(self, webhook: Webhook) -> StageSubscriber:
        plan = reader(webhook)

        async def take(received: Received) -> None:
            await self._deliveries.take(webhook.org, webhook.uuid, received.message)

        await self._bus.prepare_stage(plan)
        return await add_stage(self._broker, plan, take)
