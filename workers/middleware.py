"""What every message passes through, from the outside in."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

from fast_depends.exceptions import ValidationError
from opentelemetry.trace import Span, SpanKind, StatusCode
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from pipeline import concurrency
from pipeline.adapters.bus.pull import Key, ReceivedMessage
from pipeline.dead_letters import masking, verdicts
from pipeline.dead_letters.verdicts import Done, GiveUp, Retry
from pipeline.dead_letters.writer import DeadLetterWriter
from pipeline.errors import PoisonMessage, YardError
from pipeline.telemetry import caused_by, concealing, is_recording, log_fields, span
from schemas.message import Message
from workers.broker import CallNext, Carried, DeliveryMiddleware

log = logging.getLogger(__name__)

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
"""Buckets from a store write to a long pull."""

FAILED = frozenset({"retried", "buried", "unsettled"})
"""Outcomes of attempts that came to nothing."""

Running = dict[Key, ReceivedMessage]
Jitter = Callable[[], float]
Command = Annotated[Message, Carried("command")]
"""Parameter of a handler that needs more than the data: id, actor, subject, time."""
Received = Annotated[ReceivedMessage, Carried("delivered")]
"""Parameter of a handler that needs the stored message as it came."""
LastTry = Annotated[bool, Carried("last_try")]
"""Parameter of a handler that must settle its record instead of failing once more."""


class DeliveryMetrics:
    """Counters and histograms of deliveries, by stage and outcome."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.deliveries = Counter(
            "modelyard_deliveries", "Messages handled, by what became of them.",
            ["stage", "outcome"], registry=registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "modelyard_delivery_seconds", "How long handling a message took.",
            ["stage"], buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self.waited = Histogram(
            "modelyard_delivery_wait_seconds", "From storing a message to its first delivery.",
            ["stage"], buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self.running = Gauge(
            "modelyard_deliveries_running", "Messages being handled.",
            ["stage"], registry=registry,
        )  # fmt: skip


class Measure(DeliveryMiddleware):
    """Outermost: it also counts what the others drop."""

    def __init__(self, msg: Any, /, *, metrics: DeliveryMetrics, context: Any) -> None:
        super().__init__(msg, context=context)
        self._metrics = metrics

    async def consume_scope(self, call_next: CallNext, msg: Any) -> Any:
        stage = self.plan.durable
        if self.delivered.attempt == 1:
            waited_s = (datetime.now(UTC) - self.delivered.message.time).total_seconds()
            self._metrics.waited.labels(stage).observe(max(waited_s, 0))
        started = time.perf_counter()
        try:
            with self._metrics.running.labels(stage).track_inprogress():
                return await call_next(msg)
        finally:
            self._metrics.seconds.labels(stage).observe(time.perf_counter() - started)
            self._metrics.deliveries.labels(stage, self.outcome.name).inc()


class Tracing(DeliveryMiddleware):
    """Continues the sender's trace; every log line inside names the message and its subject,
    and none the values of its payload that are not to be shown."""

    async def consume_scope(self, call_next: CallNext, msg: Any) -> Any:
        headers, subject = self.delivered.message.headers, self.delivered.message.subject
        parent = headers.get("traceparent")
        with (
            concealing(partial(masking.hidden, subject, self.delivered.message.data)),
            log_fields(message_id=headers.get("ce-id"), subject=subject),
            span(
                self.plan.durable,
                traceparent=parent,
                kind=SpanKind.CONSUMER,
                attributes=self._attributes(headers, subject) if is_recording() else None,
            ) as current,
        ):
            try:
                return await call_next(msg)
            finally:
                if current.is_recording():
                    self._end(current)

    def _attributes(self, headers: Mapping[str, str], subject: str) -> dict[str, str | int]:
        """As OpenTelemetry names them."""
        return {
            "messaging.system": "nats",
            "messaging.operation.type": "process",
            "messaging.destination.name": subject,
            "messaging.message.id": headers.get("ce-id", ""),
            "modelyard.attempt": self.delivered.attempt,
        }

    def _end(self, current: Span) -> None:
        current.set_attribute("modelyard.outcome", self.outcome.name)
        if self.outcome.name in FAILED:
            current.set_status(StatusCode.ERROR)


class Duplicates(DeliveryMiddleware):
    """Lets the first delivery go on, through the newer one, and drops the second.

    That happens after a connection was lost for longer than the ack wait.
    """

    def __init__(self, msg: Any, /, *, running: Running, context: Any) -> None:
        super().__init__(msg, context=context)
        self._running = running

    async def consume_scope(self, call_next: CallNext, msg: Any) -> Any:
        first = self._running.setdefault(self.delivered.key, self.delivered)
        if first is not self.delivered:
            log.info("%s came again while it is worked on", self.delivered.message.subject)
            first.raw = self.delivered.raw
            self.outcome.name = "duplicate"
            return None
        try:
            return await call_next(msg)
        finally:
            del self._running[self.delivered.key]


class Acknowledge(DeliveryMiddleware):
    """Nothing passes it but cancellation: the one place where a worker's errors get meaning."""

    def __init__(
        self, msg: Any, /, *, writer: DeadLetterWriter, jitter: Jitter, context: Any
    ) -> None:
        super().__init__(msg, context=context)
        self._writer = writer
        self._jitter = jitter

    async def consume_scope(self, call_next: CallNext, msg: Any) -> None:
        try:
            self.outcome.name = await self._handled(call_next, msg)
        except YardError as error:
            # Of the broker, not of the work: it could not be told. The message comes again.
            self.outcome.name = "unsettled"
            log.warning("not acknowledged: %s", error.message)

    async def _handled(self, call_next: CallNext, msg: Any) -> str:
        try:
            await call_next(msg)
        except asyncio.CancelledError:
            if not concurrency.is_cancelled():
                error = RuntimeError("Something the handler awaited was cancelled.")
                return await self._settle(error)
            await self.delivered.nak()
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it gets a verdict
            return await self._settle(_as_poison(error))
        await self.delivered.ack()
        return "done"

    async def _settle(self, error: Exception) -> str:
        attempt = self.delivered.attempt
        verdict = verdicts.retry_or_give_up(
            error, attempt=attempt, plan=self.plan, jitter=self._jitter()
        )
        is_early = verdicts.is_early(error, verdict, attempt=attempt, plan=self.plan)
        # What was not found may still be on its way.
        if is_early and await self._writer.may_come(self.delivered.message):
            verdict = Retry(verdict.code, verdicts.backoff_s(self.plan, attempt, self._jitter()))
        match verdict:
            case Done():
                log.info("dropped: %s", error)
                await self.delivered.ack()
                return "dropped"
            case Retry():
                return await self._retry(error, verdict)
            case GiveUp():
                return await self._give_up(error, verdict)

    async def _retry(self, error: Exception, verdict: Retry) -> str:
        # Only what nobody foresaw needs a stack to be understood.
        foreseen = isinstance(error, YardError)
        log.warning(
            "attempt %d failed, next in %.1f s: %s",
            self.delivered.attempt,
            verdict.delay_s,
            _message(error),
            exc_info=None if foreseen else error,
        )
        await self._writer.note(
            self.delivered.stream,
            self.delivered.message,
            number=self.delivered.attempt,
            code=verdict.code,
            reason=_message(error),
        )
        await self.delivered.nak(delay_s=verdict.delay_s)
        return "retried"

    async def _give_up(self, error: Exception, verdict: GiveUp) -> str:
        try:
            await self._writer.dead_letter(
                self.delivered.stream,
                self.delivered.message,
                stage=self.plan.durable,
                number=self.delivered.attempt,
                code=verdict.code,
                reason=_message(error),
            )
        except YardError as failure:
            # Should this have been the last delivery, the broker's advisory brings it up again.
            log.warning("not given up: %s", failure.message)
            await self.delivered.nak(delay_s=self.plan.retry_base_s)
            return "retried"
        await self.delivered.ack()
        return "buried"


class Heartbeat(DeliveryMiddleware):
    """Tells the broker every third of the ack wait that the work goes on.

    Short work pays for a timer only.
    """

    async def consume_scope(self, call_next: CallNext, msg: Any) -> Any:
        interval_s = self.plan.ack_wait_s / 3
        beating: list[asyncio.Task[None]] = []

        def begin() -> None:
            beating.append(asyncio.create_task(self._beat(interval_s)))

        timer = asyncio.get_running_loop().call_later(interval_s, begin)
        try:
            return await call_next(msg)
        finally:
            timer.cancel()
            await concurrency.cancel_and_wait(*beating)

    async def _beat(self, interval_s: float) -> None:
        while True:
            try:
                await self.delivered.in_progress()
            except YardError as error:
                log.warning("no sign of life could be given: %s", error.message)
            await asyncio.sleep(interval_s)


class Envelope(DeliveryMiddleware):
    """Reads the envelope; what is written inside names the command, or what that followed from.

    Raises PoisonMessage for a message that is no CloudEvent.
    """

    async def consume_scope(self, call_next: CallNext, msg: Any) -> Any:
        command = _read(self.delivered) if self.plan.cloud_events else None
        last_try = self.delivered.attempt >= self.plan.max_deliver
        cause = (command.causation_id or command.id) if command else None
        with caused_by(cause), self.context.scopes((("command", command), ("last_try", last_try))):
            return await call_next(msg)


# --- their helpers -------------------------------------------------------------------------------


def _as_poison(error: Exception) -> Exception:
    """Data that does not fit the handler's model is a poison message, and says which field."""
    if not isinstance(error, ValidationError):
        return error
    fields = ", ".join(field.field_name for field in error.error_fields)
    return PoisonMessage(f"The data does not fit ({fields}): {_first(error.original_error)}")


def _first(error: Exception) -> str:
    details: list[dict[str, Any]] = getattr(error, "errors", list)()
    if not details:
        return type(error).__name__
    place = ".".join(str(part) for part in details[0]["loc"])
    return f"{place}: {details[0]['msg']}"


def _message(error: Exception) -> str:
    return error.message if isinstance(error, YardError) else f"{type(error).__name__}: {error}"


def _read(delivered: ReceivedMessage) -> Message:
    stored = delivered.message
    try:
        return Message.from_wire(
            stored.subject, stored.headers, stored.data, received_at=stored.time
        )
    except ValueError as error:
        raise PoisonMessage(f"The message cannot be read: {error}") from error
