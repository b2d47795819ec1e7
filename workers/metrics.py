"""Deliveries, counted and timed."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from faststream import BaseMiddleware
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from pipeline.adapters.bus import Delivered
from pipeline.metrics import SECONDS
from pipeline.rules.topology import StagePlan
from workers.outcome import Outcome


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


class Measure(BaseMiddleware):
    """Outermost: it also counts what the others drop."""

    def __init__(self, msg: Any, /, *, metrics: DeliveryMetrics, context: Any) -> None:
        super().__init__(msg, context=context)
        self._metrics = metrics

    async def consume_scope(self, call_next: Callable[[Any], Awaitable[Any]], msg: Any) -> Any:
        plan: StagePlan = self.context.get_local("plan")
        self._note_wait(plan.durable, self.context.get_local("delivered"))
        outcome = Outcome()
        started = time.perf_counter()
        try:
            with (
                self._metrics.running.labels(plan.durable).track_inprogress(),
                self.context.scope("outcome", outcome),
            ):
                return await call_next(msg)
        finally:
            self._metrics.seconds.labels(plan.durable).observe(time.perf_counter() - started)
            self._metrics.deliveries.labels(plan.durable, outcome.name).inc()

    def _note_wait(self, stage: str, delivered: Delivered) -> None:
        if delivered.attempt == 1:
            waited_s = (datetime.now(UTC) - delivered.message.time).total_seconds()
            self._metrics.waited.labels(stage).observe(max(waited_s, 0))
