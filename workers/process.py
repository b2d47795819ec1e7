"""What the worker and the agent have in common as processes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import prometheus_client
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from pipeline.adapters.metrics import Counts
from pipeline.adapters.tracing import exporting
from pipeline.errors import Misconfigured, YardError
from pipeline.settings import Settings
from pipeline.telemetry import configure_logging

log = logging.getLogger(__name__)

Work = Callable[[Settings, CollectorRegistry], Coroutine[Any, Any, None]]


def run(work: Work, *, service: str) -> int:
    """The exit code. What keeps the process from working is one line of the log, no stack.

    `service` is its name in traces.
    """
    settings = Settings()
    configure_logging(settings.log_level)
    registry = new_registry()
    exit_code = 0
    try:
        with (
            _answering_scrapes(settings, registry),
            exporting(settings.traces_endpoint, service=service),
        ):
            asyncio.run(work(settings, registry))
    except* YardError as failed:
        for error in _leaves(failed):
            log.critical("cannot work: %s", error.message, extra={"code": error.code})
        exit_code = 1
    return exit_code


def _leaves(group: ExceptionGroup[YardError]) -> Iterator[YardError]:
    for error in group.exceptions:
        if isinstance(error, ExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


@contextmanager
def _answering_scrapes(settings: Settings, registry: CollectorRegistry) -> Iterator[None]:
    port, host = settings.metrics_port, settings.metrics_host
    with ExitStack() as stack:
        try:
            if port:
                stack.enter_context(serving(registry, port=port, host=host))
        except OSError as error:
            raise Misconfigured(
                f"MODELYARD_METRICS_PORT: {host}:{port} cannot be used ({error.strerror})."
            ) from error
        yield


def new_registry() -> CollectorRegistry:
    """A registry with the facts about this process; everything else is registered by its owner."""
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    registry.register(Counts())
    return registry


@contextmanager
def serving(registry: CollectorRegistry, *, port: int, host: str) -> Iterator[int]:
    """Answer scrapes from a thread of its own, for processes without an HTTP server.

    Yields the port, which is a free one for 0. Raises OSError when it is taken.
    """
    server, thread = prometheus_client.start_http_server(port, addr=host, registry=registry)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
