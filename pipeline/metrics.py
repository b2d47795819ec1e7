"""What a process counts, in the form that Prometheus reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import prometheus_client
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
"""Buckets from a store write to a long pull."""


def new_registry() -> CollectorRegistry:
    """A registry with the facts about this process; everything else is registered by its owner."""
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
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
