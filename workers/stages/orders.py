"""Orders for one node, carried out by the agent beside its engine."""

from __future__ import annotations

from pipeline import topology
from pipeline.agent.service import Agent
from pipeline.builds import specs
from pipeline.containers import volumes
from pipeline.errors import PoisonMessage
from schemas.commands import NodeOrder
from workers.broker import YardBroker, stage
from workers.middleware import Command, LastTry


def register(broker: YardBroker, agent: Agent) -> None:
    """The stage of one node's orders; it owns no state."""

    @stage(broker, topology.node_stage(agent.uuid))
    async def carry_out(order: NodeOrder, command: Command, last_try: LastTry) -> None:
        """Launch, stop or remove one container, or look at builds.

        Outdated fencing numbers are refused. The time of a restart stands in the record; its order
        is a reason to look there.
        """
        verb = command.subject.rsplit(".", 1)[-1]
        match verb:
            case "launch":
                await agent.launching.launch(order, last_try=last_try)
            case "stop":
                await agent.ending.stop(order)
            case "remove":
                await agent.ending.remove(order)
            case "restart":
                await agent.watching.look(order.container)
            case volumes.SWEEP:
                await agent.volumes.sweep()
            case specs.VERB:
                await agent.building.look()
            case _:
                raise PoisonMessage(f"No agent knows how to {verb}.")
