"""Orders for one node, carried out by the agent beside its engine."""

from __future__ import annotations

from pipeline.core.agent import Agent
from pipeline.errors import PoisonMessage
from pipeline.rules import topology
from schemas.commands import NodeOrder
from workers.broker import YardBroker
from workers.envelope import Command
from workers.intake import stage
from workers.tries import LastTry


def register(broker: YardBroker, agent: Agent) -> None:
    """The stage of one node's orders; it owns no state."""

    @stage(broker, topology.node_stage(agent.uuid))
    async def carry_out(order: NodeOrder, command: Command, last_try: LastTry) -> None:
        """Launch, stop or remove one container. Outdated fencing numbers are refused."""
        verb = command.subject.rsplit(".", 1)[-1]
        match verb:
            case "launch":
                await agent.launches.launch(order, last_try=last_try)
            case "stop":
                await agent.endings.stop(order)
            case "remove":
                await agent.endings.remove(order)
            case _:
                raise PoisonMessage(f"No agent knows how to {verb}.")
