"""The process beside one HAProxy: `python -m workers.gateway`. As many as there are gateways."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline import concurrency
from pipeline.bootstrap import open_gateway
from pipeline.gateway.measuring import Measuring
from pipeline.gateway.service import Gateway
from pipeline.settings import Settings
from workers import process


async def work(settings: Settings, registry: CollectorRegistry) -> None:
    """Keep HAProxy in step until SIGTERM or SIGINT. Raises Misconfigured, StoreUnavailable."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with AsyncExitStack() as stack:
        gateway, measuring = await stack.enter_async_context(open_gateway(settings))
        measure(gateway, measuring, registry)
        both = concurrency.gather_or_cancel(gateway.run(), measuring.run())
        following = asyncio.create_task(both, name="gateway")
        waiting = asyncio.create_task(stopping.wait())
        done, _ = await asyncio.wait({following, waiting}, return_when=asyncio.FIRST_COMPLETED)
        await concurrency.cancel_and_wait(*({following, waiting} - done))
        if following in done:
            following.result()


class _Calls(Collector):
    """Of each deployment, as HAProxy counts them: a reload begins at 0."""

    def __init__(self, measuring: Measuring) -> None:
        self._measuring = measuring

    def collect(self) -> Iterator[Metric]:
        answered = CounterMetricFamily(
            "modelyard_gateway_requests",
            "Calls of deployments that were answered, by the class of the status.",
            labels=("deployment", "code"),
        )
        under_way = GaugeMetricFamily(
            "modelyard_gateway_requests_in_flight",
            "Calls at replicas, and those that wait for one.",
            labels=("deployment",),
        )
        waiting = GaugeMetricFamily(
            "modelyard_gateway_requests_waiting",
            "Calls that wait for a replica.",
            labels=("deployment",),
        )
        for slug, figures in sorted(self._measuring.latest.items()):
            for code, number in figures.answers.items():
                answered.add_metric([slug, code], number)
            under_way.add_metric([slug], figures.under_way)
            waiting.add_metric([slug], figures.queued)
        yield from (answered, under_way, waiting)


def measure(gateway: Gateway, measuring: Measuring, registry: CollectorRegistry) -> None:
    """Have `registry` tell of both."""
    registry.register(_Calls(measuring))
    measured = {
        "deployments": "Deployments that can be called.",
        "replicas": "Replicas that are called.",
        "reloads": "Configurations that HAProxy has taken since the start.",
    }
    for name, meaning in measured.items():
        gauge = Gauge(f"modelyard_gateway_{name}", meaning, registry=registry)
        gauge.set_function(partial(getattr, gateway, name))
    unresolved = Gauge(
        "modelyard_gateway_unresolved_nodes",
        "Nodes whose address does not resolve: their replicas are not called.",
        registry=registry,
    )
    unresolved.set_function(lambda: len(gateway.unresolved))


if __name__ == "__main__":
    sys.exit(process.run(work, service="gateway"))
