"""The end of every delivery: acknowledged, given back, or buried."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from fast_depends.exceptions import ValidationError
from faststream import BaseMiddleware

from pipeline import tasks
from pipeline.adapters.bus import Delivered
from pipeline.core.burials import Burials
from pipeline.errors import PoisonMessage, YardError
from pipeline.rules import delivery
from pipeline.rules.delivery import Bury, Done, Retry
from pipeline.rules.topology import StagePlan
from workers.outcome import Outcome

log = logging.getLogger(__name__)

Jitter = Callable[[], float]


class Acknowledge(BaseMiddleware):
    """Nothing passes it but cancellation: the one place where a worker's errors get meaning."""

    def __init__(self, msg: Any, /, *, burials: Burials, jitter: Jitter, context: Any) -> None:
        super().__init__(msg, context=context)
        self._burials = burials
        self._jitter = jitter
        self._plan: StagePlan = context.get_local("plan")
        self._delivered: Delivered = context.get_local("delivered")

    async def consume_scope(self, call_next: Callable[[Any], Awaitable[Any]], msg: Any) -> None:
        outcome: Outcome = self.context.get_local("outcome")
        try:
            outcome.name = await self._handled(call_next, msg)
        except YardError as error:
            # Of the broker, not of the work: it could not be told. The message comes again.
            outcome.name = "unsettled"
            log.warning("not acknowledged: %s", error.message)

    async def _handled(self, call_next: Callable[[Any], Awaitable[Any]], msg: Any) -> str:
        try:
            await call_next(msg)
        except asyncio.CancelledError:
            if not tasks.is_cancelled():
                return await self._settle(
                    RuntimeError("Something the handler awaited was cancelled.")
                )
            await self._delivered.give_back()
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it gets a verdict
            return await self._settle(_named(error))
        await self._delivered.ack()
        return "done"

    async def _settle(self, error: Exception) -> str:
        attempt = self._delivered.attempt
        verdict = delivery.judge(error, attempt=attempt, plan=self._plan, jitter=self._jitter())
        match verdict:
            case Done():
                log.info("dropped: %s", error)
                await self._delivered.ack()
                return "dropped"
            case Retry():
                return await self._retry(error, verdict)
            case Bury():
                return await self._bury(error, verdict)

    async def _retry(self, error: Exception, verdict: Retry) -> str:
        # Only what nobody foresaw needs a stack to be understood.
        foreseen = isinstance(error, YardError)
        log.warning(
            "attempt %d failed, next in %.1f s: %s",
            self._delivered.attempt,
            verdict.delay_s,
            _told(error),
            exc_info=None if foreseen else error,
        )
        stored = self._delivered.message
        await self._burials.note(
            self._delivered.stream,
            stored,
            number=self._delivered.attempt,
            code=verdict.code,
            reason=_told(error),
        )
        await self._delivered.give_back(delay_s=verdict.delay_s)
        return "retried"

    async def _bury(self, error: Exception, verdict: Bury) -> str:
        try:
            await self._burials.bury(
                self._delivered.stream,
                self._delivered.message,
                stage=self._plan.durable,
                number=self._delivered.attempt,
                code=verdict.code,
                reason=_told(error),
            )
        except YardError as failure:
            # Should this have been the last delivery, the broker's advisory brings it up again.
            log.warning("not buried: %s", failure.message)
            await self._delivered.give_back(delay_s=self._plan.retry_base_s)
            return "retried"
        await self._delivered.ack()
        return "buried"


def _named(error: Exception) -> Exception:
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


def _told(error: Exception) -> str:
    return error.message if isinstance(error, YardError) else f"{type(error).__name__}: {error}"
