"""Spans on their way to a receiver of OTLP: a real HTTP server that reads what arrives."""

from __future__ import annotations

import json
import logging
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.trace import SpanKind

from pipeline.adapters.tracing import exporting
from pipeline.telemetry import is_recording, span
from tests.support.processes import any_free
from tests.support.sources import ROOT


class Receiver:
    """Keeps every request for `/v1/traces`."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        outside = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                assert self.headers["content-type"] == "application/json"
                outside.got.append((self.path, json.loads(body)))
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}/v1/traces"

    def spans(self) -> list[Any]:
        return [
            each
            for path, body in self.got
            if path == "/v1/traces"
            for resource in body["resourceSpans"]
            for scope in resource["scopeSpans"]
            for each in scope["spans"]
        ]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever)
    thread.start()
    yield receiver
    receiver.server.shutdown()
    thread.join()
    receiver.server.server_close()


def test_a_receiver_gets_every_span_with_its_parent_and_who_sent_it(receiver: Receiver) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with exporting(receiver.endpoint, service="worker"):
        attributes = {"messaging.system": "nats"}
        with (
            span("outer", traceparent=parent, kind=SpanKind.CONSUMER, attributes=attributes),
            span("inner", traceparent=None, kind=SpanKind.INTERNAL),
        ):
            pass
    spans = {each["name"]: each for each in receiver.spans()}
    assert spans.keys() == {"outer", "inner"}
    assert spans["outer"]["traceId"] == "0af7651916cd43dd8448eb211c80319c"
    assert spans["outer"]["parentSpanId"] == "b7ad6b7169203331"
    assert int(spans["outer"]["endTimeUnixNano"]) >= int(spans["outer"]["startTimeUnixNano"])
    told = {each["key"]: each["value"] for each in spans["outer"]["attributes"]}
    assert told["messaging.system"] == {"stringValue": "nats"}
    [(_, body)] = receiver.got
    named = {e["key"]: e["value"] for e in body["resourceSpans"][0]["resource"]["attributes"]}
    assert named["service.name"] == {"stringValue": "modelyard-worker"}


def test_nothing_is_recorded_once_it_is_left(receiver: Receiver) -> None:
    with exporting(receiver.endpoint, service="api"):
        assert is_recording()
    assert not is_recording()
    with span("later", traceparent=None, kind=SpanKind.SERVER) as current:
        assert not current.is_recording()
    assert receiver.spans() == []


def test_a_receiver_that_is_away_costs_spans_and_nothing_else(
    caplog: pytest.LogCaptureFixture, unused_port: int
) -> None:
    caplog.set_level(logging.ERROR)
    endpoint = f"http://127.0.0.1:{unused_port}/v1/traces"
    with exporting(endpoint, service="api"), span("lost", traceparent=None, kind=SpanKind.SERVER):
        pass
    assert any("opentelemetry" in record.name for record in caplog.records)


@pytest.fixture
def unused_port() -> int:
    return any_free(random.Random())


def test_without_an_endpoint_nothing_of_the_sdk_is_loaded() -> None:
    program = (
        "import sys\n"
        "from pipeline.adapters.tracing import exporting\n"
        "import api.app, workers.control_plane\n"
        "with exporting('', service='api'):\n"
        "    print([n for n in sys.modules if n.startswith(('opentelemetry.sdk',"
        " 'opentelemetry.exporter'))])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
