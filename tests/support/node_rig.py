"""One node inside the test: its agent, the use cases around it, an engine in memory.

Store and records are real. Messages are collected instead of sent, and a test hands the orders for
the node over when it wants to, as often as it wants to.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast

from pipeline.adapters.bus import Bus
from pipeline.adapters.engine import DockerEngine
from pipeline.adapters.gpus_simulated import SimulatedInventory
from pipeline.adapters.store import EVERY_ORG, Store
from pipeline.core import records
from pipeline.core.agent import Agent
from pipeline.core.containers import Containers
from pipeline.core.images import Images
from pipeline.core.leases import Leases
from pipeline.core.nodes import Nodes
from pipeline.core.outbox import Outbox
from pipeline.core.own_registry import OwnRegistry
from pipeline.core.placing import Placing
from pipeline.core.registration import node_id
from pipeline.core.secrets import Secrets
from pipeline.core.stuck import Stuck
from pipeline.errors import YardError
from pipeline.rules import simulated_gpus
from pipeline.settings import Settings
from schemas.access import Principal
from schemas.commands import NodeOrder
from schemas.container import Container, ContainerSpec
from schemas.image import Image
from schemas.message import Message
from schemas.node import Node
from schemas.states import ContainerStatus as Status
from schemas.states import ImageStatus
from tests.support import records as made
from tests.support.engine_world import EngineWorld
from tests.support.waiting import eventually
from tests.support.working import member

KEY = "a" * 43 + "="
ORG = made.ORG


class Sent:
    """A broker that remembers, and passes on to a real one if there is one."""

    def __init__(self, bus: Bus | None = None) -> None:
        self.messages: list[Message] = []
        self._bus = bus

    async def publish(self, message: Message, *, timeout_s: float = 5) -> int:
        self.messages.append(message)
        if self._bus is None:
            return len(self.messages)
        return await self._bus.publish(message, timeout_s=timeout_s)

    def kinds(self, uuid: str) -> list[str]:
        """Of the events about a record, in order."""
        prefix = f".{uuid}."
        events = [m.subject for m in self.messages if m.subject.startswith("yard.evt.")]
        return [subject.partition(prefix)[2] for subject in events if prefix in subject]


class Clock:
    """Real time, and what the test skips of it."""

    def __init__(self) -> None:
        self._skipped = timedelta(0)

    def __call__(self) -> datetime:
        return records.now() + self._skipped

    def skip(self, seconds: float) -> None:
        self._skipped += timedelta(seconds=seconds)


class Health:
    """What the health endpoint of every container answers."""

    def __init__(self) -> None:
        self.status = 200
        self.asked = 0

    async def ask(self, url: str, timeout_s: float) -> int:
        self.asked += 1
        return self.status


def settings(**values: Any) -> Settings:
    brisk: dict[str, Any] = {
        "installation": "rig",
        "encryption_keys": f"k1:{KEY}",
        "heartbeat_interval_s": 0.1,
        "reconcile_interval_s": 0.3,
        "restart_backoff_s": 0.1,
        "restart_backoff_max_s": 0.4,
        "restart_reset_s": 600,
        "stop_grace_s": 1,
        "pull_stall_s": 0.3,
    }
    return Settings(**{**brisk, **values})


@dataclass
class NodeRig:
    settings: Settings
    clock: Clock
    store: Store
    sent: Sent
    outbox: Outbox
    world: EngineWorld
    engine: DockerEngine
    gpus: SimulatedInventory
    health: Health
    containers: Containers
    placing: Placing
    nodes: Nodes
    stuck: Stuck
    leases: Leases
    agent: Agent
    caller: Principal = field(default_factory=lambda: member(ORG))
    _handed: set[str] = field(default_factory=set)

    async def image(self, **values: Any) -> Image:
        digest = f"sha256:{records.fingerprint(ContainerSpec(image=records.new_id()))}"
        given = {
            "status": ImageStatus.READY,
            "digest": digest,
            "pinned": f"registry.test/model@{digest}",
            "platform": made.AMD64,
        }
        return await self.store.insert(made.image(**given | values))

    async def here(self, image: Image) -> Image:
        """Have it on the engine already."""
        assert image.pinned is not None
        self.world.images.add(image.pinned)
        return image

    async def run(self, image: Image | None = None, **spec: Any) -> Container:
        """A container that is placed; its order waits to be handed over."""
        image = image or await self.here(await self.image())
        asked = ContainerSpec(image=image.uuid, **spec)
        container = await self.containers.run(self.caller, asked)
        await self.placing.place(ORG, container.uuid)
        return await self.record(container)

    async def up(self, image: Image | None = None, **spec: Any) -> Container:
        """One that runs."""
        container = await self.run(image, **spec)
        await self.hand_over()
        container = await self.record(container)
        assert container.status is Status.RUNNING, container.reason
        return container

    def orders(self) -> list[tuple[str, NodeOrder]]:
        """Verbs and orders for this node that were not handed over yet."""
        prefix = f"yard.node.{self.agent.uuid}."
        return [
            (message.subject.removeprefix(prefix), NodeOrder.model_validate(message.data))
            for message in self.sent.messages
            if message.subject.startswith(prefix) and message.id not in self._handed
        ]

    async def hand_over(self, *, last_try: bool = False) -> list[YardError]:
        """Carry out what was ordered; returns what was raised."""
        waiting = self.orders()
        self._handed |= {message.id for message in self.sent.messages}
        raised = []
        for verb, order in waiting:
            try:
                await self.carry_out(verb, order, last_try=last_try)
            except YardError as error:
                raised.append(error)
        return raised

    async def carry_out(self, verb: str, order: NodeOrder, *, last_try: bool = False) -> None:
        match verb:
            case "launch":
                await self.agent.launches.launch(order, last_try=last_try)
            case "stop":
                await self.agent.endings.stop(order)
            case "remove":
                await self.agent.endings.remove(order)

    async def record(self, container: Container) -> Container:
        return await self.store.get(Container, container.uuid, org=ORG)

    async def node(self) -> Node:
        return await self.store.get(Node, self.agent.uuid, org=EVERY_ORG)

    async def until(
        self, container: Container, status: Status, *, restarts: int = 0, timeout_s: float = 5
    ) -> Container:
        """The record once it has this status and at least so many restarts."""

        async def holds() -> bool:
            found = await self.record(container)
            return found.status is status and found.restarts >= restarts

        try:
            await eventually(holds, timeout_s=timeout_s)
        except AssertionError as error:
            found = await self.record(container)
            raise AssertionError(f"it is {found.status}: {found.reason}") from error
        return await self.record(container)

    @asynccontextmanager
    async def alive(self) -> AsyncIterator[None]:
        """Its agent beats, watches and reconciles meanwhile."""
        running = asyncio.create_task(self.agent.run())
        try:
            async with asyncio.timeout(10):
                while not self.world.readers:  # noqa: ASYNC110 - the engine sets no events
                    await asyncio.sleep(0.01)
            yield
        finally:
            running.cancel()
            await asyncio.wait([running])

    async def remind(self) -> None:
        """Let so much time pass that everything which waits is reminded."""
        await self.outbox.close()
        self.clock.skip(self.settings.stuck_after_s + 1)
        await self.agent.registration.beat(reconciled=True)
        await self.stuck.sweep()

    def another_agent(self, name: str) -> Agent:
        """Of another node, over the same store and engine."""
        return agent_of(self, name)


@asynccontextmanager
async def node_rig(
    store: Store,
    *,
    bus: Bus | None = None,
    gpus: str = "2xH100-80GB",
    is_ready: bool = True,
    **values: Any,
) -> AsyncIterator[NodeRig]:
    given = settings(**values)
    async with AsyncExitStack() as stack:
        sent = Sent(bus)
        outbox = await stack.enter_async_context(Outbox(store, sent))
        world = await stack.enter_async_context(EngineWorld.open())
        assert isinstance(world, EngineWorld)
        engine = await stack.enter_async_context(DockerEngine.open(world.address))
        leases, clock = Leases(store), Clock()
        images = _images(store, outbox, given, clock)
        rig = NodeRig(
            settings=given,
            clock=clock,
            store=store,
            sent=sent,
            outbox=outbox,
            world=world,
            engine=engine,
            gpus=SimulatedInventory(
                simulated_gpus.parse(gpus),
                node="one",
                driver=given.simulated_driver,
                cuda=given.simulated_cuda,
            ),
            health=Health(),
            containers=Containers(store, outbox, images, leases, clock),
            placing=Placing(store, outbox, leases, node_grace_s=given.node_grace_s, clock=clock),
            nodes=Nodes(
                store,
                outbox,
                leases,
                grace_s=given.node_grace_s,
                sweep_interval_s=given.sweep_interval_s,
                clock=clock,
            ),
            stuck=Stuck(store, outbox, given, clock),
            leases=leases,
            agent=cast(Agent, None),
        )
        rig.agent = agent_of(rig, "one")
        stack.push_async_callback(rig.agent.close)
        await rig.agent.registration.beat(reconciled=is_ready)
        yield rig


def agent_of(rig: NodeRig, name: str) -> Agent:
    return Agent.build(
        rig.settings.model_copy(update={"simulated_gpus": "yes"}),
        rig.store,
        cast(Bus, None),  # an agent uses it for its logs only
        rig.outbox,
        rig.engine,
        rig.gpus,
        Secrets(rig.store, rig.outbox, rig.settings, records.now),
        rig.health.ask,
        name=name,
        uuid=node_id(rig.settings.installation, name),
        clock=rig.clock,
    )


def _images(store: Store, outbox: Outbox, settings: Settings, clock: Clock) -> Images:
    secrets = Secrets(store, outbox, settings, clock)
    return Images(store, outbox, secrets, OwnRegistry(store, settings.registry), clock)
