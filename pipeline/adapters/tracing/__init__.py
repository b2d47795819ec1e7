"""OpenTelemetry's SDK and its OTLP exporter, loaded only where spans are recorded.

Spans go as JSON, which every OTLP receiver over HTTP takes: the exporter for protobuf would bind
everybody who installs this to one major version of `protobuf`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

from pipeline.telemetry import recording

EXPORT_S = 3.0
"""What one batch may take, with its retries; also what the end of a process may wait for."""


@contextmanager
def exporting(endpoint: str, *, service: str) -> Iterator[None]:
    """Record spans and send them to an OTLP receiver over HTTP, until this is left.

    Does nothing, and loads nothing, without an endpoint. A receiver that is away costs spans and a
    line of the log.
    """
    if not endpoint:
        yield
        return
    from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create(
        {
            "service.name": f"modelyard-{service}",
            "service.version": version("modelyard"),
            "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
        }
    )
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    try:
        with recording(provider):
            yield
    finally:
        provider.shutdown()
