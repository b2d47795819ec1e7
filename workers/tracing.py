"""Which message a log line and a span belong to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from faststream import BaseMiddleware
from opentelemetry.trace import SpanKind

from pipeline.adapters.bus import Delivered
from pipeline.rules.topology import StagePlan
from pipeline.telemetry import log_fields, span


class Tracing(BaseMiddleware):
    """Continues the sender's trace; every log line inside names the message and its subject."""

    async def consume_scope(self, call_next: Callable[[Any], Awaitable[Any]], msg: Any) -> Any:
        plan: StagePlan = self.context.get_local("plan")
        delivered: Delivered = self.context.get_local("delivered")
        headers = delivered.message.headers
        with (
            log_fields(message_id=headers.get("ce-id"), subject=delivered.message.subject),
            span(plan.durable, traceparent=headers.get("traceparent"), kind=SpanKind.CONSUMER),
        ):
            return await call_next(msg)
