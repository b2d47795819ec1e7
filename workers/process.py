"""What the worker and the agent have in common as processes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from prometheus_client import CollectorRegistry

from pipeline import metrics
from pipeline.errors import Misconfigured, YardError
from pipeline.settings import Settings
from pipeline.telemetry import configure_logging

log = logging.getLogger(__name__)

Work = Callable[[Settings, CollectorRegistry], Coroutine[Any, Any, None]]


def run(work: Work) -> int:
    """The exit code. What keeps the process from working is one line of the log, no stack."""
    settings = Settings()
    configure_logging(settings.log_level)
    registry = metrics.new_registry()
    try:
        with _answering_scrapes(settings, registry):
            asyncio.run(work(settings, registry))
    except YardError as error:
        log.critical("cannot work: %s", error.message, extra={"code": error.code})
        return 1
    return 0


@contextmanager
def _answering_scrapes(settings: Settings, registry: CollectorRegistry) -> Iterator[None]:
    port, host = settings.metrics_port, settings.metrics_host
    with ExitStack() as stack:
        try:
            if port:
                stack.enter_context(metrics.serving(registry, port=port, host=host))
        except OSError as error:
            raise Misconfigured(
                f"MODELYARD_METRICS_PORT: {host}:{port} cannot be used ({error.strerror})."
            ) from error
        yield
