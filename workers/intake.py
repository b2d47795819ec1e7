"""How messages of a stage reach its handler.

FastStream's own pull subscriber takes messages in before a worker is free, where nobody tells the
broker that they are alive; it loops hot when its consumer is deleted; and on shutdown it forgets
what it holds. This one asks for exactly as many messages as it can start, makes its durable anew,
and hands back what it did not begin. The rest (parsing, middlewares, injection, the AsyncAPI
document) stays FastStream's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from faststream import AckPolicy
from faststream._internal.broker.registrator import Registrator
from faststream._internal.endpoint.subscriber.call_item import CallsCollection
from faststream.nats import ConsumerConfig, JStream
from faststream.nats.subscriber.config import (
    NatsSubscriberConfig,
    NatsSubscriberSpecificationConfig,
)
from faststream.nats.subscriber.specification import NatsSubscriberSpecification
from faststream.nats.subscriber.usecases.stream_basic import StreamSubscriber

from pipeline import tasks
from pipeline.adapters.bus import Delivered, Pull
from pipeline.errors import YardError
from pipeline.rules.topology import StagePlan
from workers.broker import YardBroker

log = logging.getLogger(__name__)

PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0

Handler = TypeVar("Handler", bound=Callable[..., Awaitable[None]])


def stage(broker: YardBroker, plan: StagePlan) -> Callable[[Handler], Handler]:
    """Register a handler for the messages of a durable.

    The handler's first parameter is a pydantic model of the message's data; it may also take
    `command: Command` (the whole CloudEvent, `workers.envelope`) and whatever FastStream injects.
    It returns when the work is done and raises when it is not; what follows from the error is
    decided by `pipeline.rules.delivery`. It may run more than once for one message.
    """

    def register(handler: Handler) -> Handler:
        subscriber = _subscriber(broker, plan)
        Registrator.subscriber(broker, subscriber)
        subscriber.add_call(parser_=None, decoder_=None, dependencies_=())(handler)
        return handler

    return register


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
        await tasks.end(*self._running)

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
            await Delivered.of(raw).give_back()

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
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pause_s):
                await self._stopping.wait()
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
            with context.scopes((("plan", self.plan), ("delivered", Delivered.of(raw)))):
                await self.process_message(raw)
        except Exception:
            # The middlewares settle every failure of a handler; this one is theirs.
            log.exception("a message of %s comes again after its ack wait", self.plan.durable)


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
