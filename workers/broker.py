"""FastStream's broker over the connection of the bus adapter, and how messages reach a handler.

FastStream's own pull subscriber takes messages in before a worker is free, where nobody tells the
broker that they are alive; it loops hot when its consumer is deleted; and on shutdown it forgets
what it holds. `StageSubscriber` asks for exactly as many messages as it can start, makes its
durable anew, and hands back what it did not begin. The rest (parsing, middlewares, injection, the
AsyncAPI document) stays FastStream's. Nothing else of ours touches what is internal to it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from fast_depends.pydantic import PydanticSerializer
from faststream import AckPolicy, BaseMiddleware
from faststream._internal.broker import BrokerUsecase
from faststream._internal.broker.registrator import Registrator
from faststream._internal.context import Context
from faststream._internal.endpoint.subscriber.call_item import CallsCollection
from faststream.nats import ConsumerConfig, JStream, NatsBroker
from faststream.nats.subscriber.config import (
    NatsSubscriberConfig,
    NatsSubscriberSpecificationConfig,
)
from faststream.nats.subscriber.specification import NatsSubscriberSpecification
from faststream.nats.subscriber.usecases.stream_basic import StreamSubscriber

from pipeline import concurrency, topology
from pipeline.adapters.bus.client import Bus
from pipeline.adapters.bus.pull import Pull, ReceivedMessage
from pipeline.errors import YardError
from pipeline.topology import StagePlan

log = logging.getLogger(__name__)

PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0

Handler = TypeVar("Handler", bound=Callable[..., Awaitable[None]])
CallNext: TypeAlias = Callable[[Any], Awaitable[Any]]

SHOWN_ADDRESS = "nats://127.0.0.1:4222"
"""The server named in the AsyncAPI document; real addresses come from the settings."""


class YardBroker(NatsBroker):
    """One connection per process: the one that reconnects for ever is the adapter's.

    `bus` is None where nothing will be started, as for writing the AsyncAPI document.
    """

    def __init__(self, bus: Bus | None, *, middlewares: Iterable[Any], drain_s: float) -> None:
        super().__init__(
            SHOWN_ADDRESS,
            middlewares=tuple(middlewares),
            ack_policy=AckPolicy.MANUAL,
            # Or data that does not fit would look like a fault inside the handler.
            serializer=PydanticSerializer(use_fastdepends_errors=True),
            graceful_timeout=drain_s,
            logger=None,
        )
        self._bus = bus
        self.drain_s = drain_s

    @property
    def bus(self) -> Bus:
        if self._bus is None:
            raise RuntimeError("This broker only describes; it has no connection.")
        return self._bus

    async def _connect(self) -> Any:
        self.config.connect(self.bus.client)
        return self.bus.client

    async def stop(self, *exc_info: Any) -> None:
        """Stop the subscribers; the connection is not ours to close."""
        await BrokerUsecase.stop(self, *exc_info)
        self._connection = None
        self.config.disconnect()


def stage(broker: YardBroker, plan: StagePlan) -> Callable[[Handler], Handler]:
    """Register a handler for the messages of a durable.

    The handler's first parameter is a pydantic model of the message's data; it may also take
    `command: Command` (the whole CloudEvent, `workers.middleware`) and whatever FastStream
    injects. It returns when the work is done and raises when it is not; what follows from the
    error is decided by `pipeline.dead_letters.verdicts`. It may run more than once for one message.
    """

    def register(handler: Handler) -> Handler:
        _registered(broker, plan, handler)
        return handler

    return register


async def add_stage(
    broker: YardBroker, plan: StagePlan, handler: Callable[..., Awaitable[None]]
) -> StageSubscriber:
    """As `stage`, for a durable that was found while the broker runs. Its `stop` ends it."""
    subscriber = _registered(broker, plan, handler, persistent=False)
    await subscriber.start()
    return subscriber


class DeliveryMiddleware(BaseMiddleware):
    """What surrounds the handling of one message; a subclass overrides `consume_scope`."""

    def __init__(self, msg: Any, /, *, context: Any) -> None:
        super().__init__(msg, context=context)
        self.plan: StagePlan = context.get_local("plan")
        self.delivered: ReceivedMessage = context.get_local("delivered")
        self.outcome: Outcome = context.get_local("outcome")


@dataclass(slots=True)
class Outcome:
    name: str = "handed_back"
    """done, dropped, retried, buried, unsettled, duplicate; handed back until it is decided."""


class Carried(Context):
    """FastStream's `Context`, without the hop through a thread that it costs per parameter."""

    async def use(self, /, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        return super().use(**kwargs)


class StageSubscriber(StreamSubscriber):
    """Pulls from the durable of a plan while it has workers free."""

    def __init__(self, *args: Any, plan: StagePlan, broker: YardBroker, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.plan = plan
        self._broker = broker
        self._running: set[asyncio.Task[None]] = set()
        self._freed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._pull: Pull | None = None
        self._taking: asyncio.Task[None] | None = None
        self._pause_s = PAUSE_S

    async def _create_subscription(self) -> None:
        self._taking = asyncio.create_task(self._keep_taking(), name=f"take {self.plan.durable}")

    async def stop(self) -> None:
        """Take nothing more, give the running handlers the drain time, hand the rest back."""
        self.running = False
        self._stopping.set()
        self._freed.set()
        if self._pull is not None:
            self._pull.end()
        if self._taking is not None:
            await self._taking
        if self._running:
            await asyncio.wait(self._running, timeout=self._broker.drain_s)
        await concurrency.cancel_and_wait(*self._running)

    async def _keep_taking(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._take()
            except YardError as error:
                await self._recover(error)
            except Exception:
                log.exception("taking messages of %s failed; trying again", self.plan.durable)
                await self._pause()

    async def _take(self) -> None:
        async with self._broker.bus.pull(self.plan) as self._pull:
            while await self._has_room():
                try:
                    raw = await self._pull.next(self.plan.workers - len(self._running))
                except YardError as error:
                    await self._recover(error)
                    continue
                if raw is not None:
                    self._pause_s = PAUSE_S
                    self._begin(raw)
        for raw in self._pull.left_over():
            await ReceivedMessage.of(raw).nak()

    async def _has_room(self) -> bool:
        """Wait for a free worker. False when there is no more to do."""
        while len(self._running) >= self.plan.workers and not self._stopping.is_set():
            self._freed.clear()
            await self._freed.wait()
        return not self._stopping.is_set()

    async def _recover(self, error: YardError) -> None:
        log.warning("%s", error.message)
        if error.facts.get("missing"):
            try:
                await self._broker.bus.prepare_stage(self.plan)
                log.warning("made %s anew", self.plan.durable)
            except YardError as failure:
                log.warning("%s could not be made: %s", self.plan.durable, failure.message)
        await self._pause()

    async def _pause(self) -> None:
        """Longer each time until a message comes; ends at once when we stop."""
        await concurrency.comes_within(self._stopping, self._pause_s)
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)

    def _begin(self, raw: Any) -> None:
        task = asyncio.create_task(self._handle(raw), name=f"handle {self.plan.durable}")
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._freed.set()

    async def _handle(self, raw: Any) -> None:
        context = self._outer_config.context
        try:
            if topology.is_skipped(self.plan, raw.subject):
                await ReceivedMessage.of(raw).ack()
                return
            local = {"plan": self.plan, "delivered": ReceivedMessage.of(raw), "outcome": Outcome()}
            with context.scopes(tuple(local.items())):
                await self.process_message(raw)
        except YardError as error:
            log.warning("not acknowledged: %s", error.message)
        except Exception:
            # The middlewares settle every failure of a handler; this one is theirs.
            log.exception("a message of %s comes again after its ack wait", self.plan.durable)


def _registered(
    broker: YardBroker,
    plan: StagePlan,
    handler: Callable[..., Awaitable[None]],
    *,
    persistent: bool = True,
) -> StageSubscriber:
    """One that is not persistent lives as long as somebody keeps it."""
    subscriber = _subscriber(broker, plan)
    Registrator.subscriber(broker, subscriber, persistent=persistent)
    subscriber.add_call(parser_=None, decoder_=None, dependencies_=())(handler)
    return subscriber


def _subscriber(broker: YardBroker, plan: StagePlan) -> StageSubscriber:
    """What `NatsBroker.subscriber` would assemble, but for the class."""
    address = _address(plan.subject)
    calls = CallsCollection[Any]()
    return StageSubscriber(
        NatsSubscriberConfig(
            subject=address,
            sub_config=ConsumerConfig(durable_name=plan.durable),
            no_reply=True,
            _outer_config=broker.config,  # type: ignore[arg-type]
            _ack_policy=AckPolicy.MANUAL,
        ),
        NatsSubscriberSpecification(
            _outer_config=broker.config,  # type: ignore[arg-type]
            calls=calls,
            specification_config=NatsSubscriberSpecificationConfig(
                subject=address,
                queue=None,
                title_=plan.durable,
                description_=None,
                include_in_schema=plan.cloud_events,
            ),
        ),
        calls,
        stream=JStream(plan.stream.name, declare=False),
        queue="",
        plan=plan,
        broker=broker,
    )


def _address(subject: str) -> str:
    """With a name for each wildcard, as the AsyncAPI document shows it."""
    names = {"cmd": ("org",), "node": ("node", "verb")}.get(subject.split(".")[1], ())
    for name in names:
        subject = subject.replace("*", f"{{{name}}}", 1)
    return subject
