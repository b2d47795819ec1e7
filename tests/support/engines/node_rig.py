"""One node inside the test: its agent, the use cases around it, an engine in memory.

Store and records are real. Messages are collected instead of sent, and a test hands the orders for
the node over when it wants to, as often as it wants to.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast

from pipeline import topology
from pipeline.adapters.bus.client import Bus
from pipeline.adapters.engine.docker import DockerEngine
from pipeline.adapters.gpus import simulated_spec
from pipeline.adapters.http.guarded import GuardedHttp
from pipeline.adapters.registry.tokens import RegistryTokens
from pipeline.adapters.store.store import EVERY_ORG, Store
from pipeline.agent.service import Agent
from pipeline.bootstrap.agent import Outside, asset_rules, build_agent
from pipeline.catalog.gates import Gates
from pipeline.catalog.rows import CatalogRows
from pipeline.containers import volumes
from pipeline.containers.changes import OverdueContainers
from pipeline.containers.service import Containers
from pipeline.errors import BusUnavailable, YardError
from pipeline.images.ownership import OwnRegistry
from pipeline.images.service import Images
from pipeline.logs.chunks import LogBatch, LogOpening
from pipeline.logs.intake import LogIntake
from pipeline.logs.sending import LogBroker
from pipeline.nodes.leases import Leases
from pipeline.placement.node_view import NodeView
from pipeline.placement.service import Placement
from pipeline.placement.sweeps import LostNodes
from pipeline.records.idempotency import fingerprint, new_id
from pipeline.records.kernel import Records, now
from pipeline.records.messages import Outbox
from pipeline.secrets.service import Secrets
from pipeline.settings import Settings
from schemas.access import Principal
from schemas.commands import NodeOrder
from schemas.container import Container, ContainerSpec
from schemas.image import Image
from schemas.message import ID_HEADER, Message
from schemas.node import Node
from schemas.states import ContainerStatus as Status
from schemas.states import ImageStatus, NodeStatus
from tests.support import records as made
from tests.support.engines.engine_world import EngineWorld
from tests.support.engines.faulty_gpus import FaultyInventory
from tests.support.systems.working import member
from tests.support.waiting import eventually

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
        return now() + self._skipped

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
        "progress_interval_s": 0,
    }
    return Settings(**{**brisk, **values})


class KeptOutput:
    """The broker and the worker on the way of output, which is kept at once; `away` like both."""

    def __init__(self, store: Store, settings: Settings, clock: Clock) -> None:
        self.away = False
        self.messages: list[tuple[str, bytes]] = []
        self.max_payload = 1024 * 1024
        self._intake = LogIntake(store, settings, clock)
        self._inboxes: dict[str, asyncio.Queue[bytes]] = {}

    async def publish_raw(
        self, subject: str, data: bytes, headers: Mapping[str, str], *, timeout_s: float = 5
    ) -> int:
        if self.away:
            raise BusUnavailable("It is away.")
        self.messages.append((subject, data))
        node, kind = topology.parse_log(subject)
        if kind == topology.LOG_OPEN:
            opening = LogOpening.model_validate_json(data)
            opened = await self._intake.open(node, opening)
            self._inboxes[opening.reply].put_nowait(opened.model_dump_json().encode())
        else:
            batch = LogBatch.model_validate_json(data)
            await self._intake.take(node, batch, message=headers[ID_HEADER])
        return len(self.messages)

    @asynccontextmanager
    async def inbox(self) -> AsyncIterator[tuple[str, asyncio.Queue[bytes]]]:
        name = new_id()
        self._inboxes[name] = asyncio.Queue()
        yield name, self._inboxes[name]


@dataclass
class NodeRig:
    settings: Settings
    clock: Clock
    store: Store
    records: Records
    sent: Sent
    outbox: Outbox
    world: EngineWorld
    engine: DockerEngine
    gpus: FaultyInventory
    health: Health
    containers: Containers
    placing: Placement
    view: NodeView
    nodes: LostNodes
    stuck: OverdueContainers
    leases: Leases
    kept: KeptOutput
    agent: Agent
    given: GuardedHttp
    caller: Principal = field(default_factory=lambda: member(ORG))
    _handed: set[str] = field(default_factory=set)
    _others: list[Agent] = field(default_factory=list)

    async def image(self, **values: Any) -> Image:
        digest = f"sha256:{fingerprint(ContainerSpec(image=new_id()))}"
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

    def orders(self, agent: Agent | None = None) -> list[tuple[str, NodeOrder]]:
        """Verbs and orders for this node, or that of `agent`, that were not handed over yet."""
        prefix = f"yard.node.{(agent or self.agent).uuid}."
        return [
            (message.subject.removeprefix(prefix), NodeOrder.model_validate(message.data))
            for message in self.sent.messages
            if message.subject.startswith(prefix) and message.id not in self._handed
        ]

    async def hand_over(self, *, last_try: bool = False) -> list[YardError]:
        """Carry out what was ordered; returns what was raised."""
        agents = (self.agent, *self._others)
        waiting = [(agent, *ordered) for agent in agents for ordered in self.orders(agent)]
        self._handed |= {message.id for message in self.sent.messages}
        raised = []
        for agent, verb, order in waiting:
            try:
                await self.carry_out(verb, order, last_try=last_try, agent=agent)
            except YardError as error:
                raised.append(error)
        return raised

    async def carry_out(
        self, verb: str, order: NodeOrder, *, last_try: bool = False, agent: Agent | None = None
    ) -> None:
        agent = agent or self.agent
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

    async def until_node(self, status: NodeStatus) -> None:
        """The node's record has this status."""

        async def holds() -> bool:
            return (await self.node()).status is status

        await eventually(holds)

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

    async def another_node(self, name: str) -> Agent:
        """That of another node, over the same store and engine; it is handed its orders, too."""
        agent = agent_of(self, name)
        self._others.append(agent)
        await agent.registration.beat(reconciled=True)
        return agent

    async def close(self) -> None:
        for agent in (self.agent, *self._others):
            await agent.close()


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
        view = NodeView(store, grace_s=given.node_grace_s, clock=clock)
        records = Records(store, outbox, clock)
        rig = NodeRig(
            settings=given,
            clock=clock,
            store=store,
            records=records,
            sent=sent,
            outbox=outbox,
            world=world,
            engine=engine,
            gpus=FaultyInventory(
                simulated_spec.parse(gpus),
                node="one",
                driver=given.simulated_driver,
                cuda=given.simulated_cuda,
            ),
            health=Health(),
            containers=Containers(records, _images(records, given), leases, _gates(records, given)),
            placing=_placing(records, leases, view, given),
            view=view,
            nodes=LostNodes(
                records, leases, grace_s=given.node_grace_s, sweep_interval_s=given.sweep_interval_s
            ),
            stuck=OverdueContainers(records, given),
            leases=leases,
            kept=KeptOutput(store, given, clock),
            agent=cast(Agent, None),
            given=await stack.enter_async_context(GuardedHttp.open(asset_rules(given))),
        )
        rig.agent = agent_of(rig, "one")
        stack.push_async_callback(rig.close)
        await rig.agent.registration.beat(reconciled=is_ready)
        yield rig


def agent_of(rig: NodeRig, name: str, broker: LogBroker | None = None) -> Agent:
    """`broker`: what its output goes to instead of `kept`."""
    simulated = rig.settings.model_copy(update={"simulated_gpus": "yes"})
    return build_agent(
        simulated,
        rig.records,
        broker or rig.kept,
        rig.engine,
        rig.gpus,
        rig.health.ask,
        Outside(rig.given, rig.given, _nobody),
        name=name,
    )


async def _nobody(build: str, asked: bytes) -> AsyncGenerator[bytes, None]:
    """Receives contexts of builds."""
    raise BusUnavailable("Nobody answers.")
    yield b""


def _placing(records: Records, leases: Leases, view: NodeView, settings: Settings) -> Placement:
    grace_s, patience_s = settings.node_grace_s, settings.placement_patience_s
    own = records, leases, view, _gates(records, settings)
    return Placement(*own, node_grace_s=grace_s, patience_s=patience_s)


def _gates(records: Records, settings: Settings) -> Gates:
    return Gates(records.store, CatalogRows(records, home=settings.org))


def _images(records: Records, settings: Settings) -> Images:
    own = OwnRegistry(records.store, RegistryTokens(settings.registry, ""))
    return Images(records, Secrets(records, settings), own)
