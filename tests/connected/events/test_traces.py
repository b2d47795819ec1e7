"""One trace from a request to what workers make of it, over a real broker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from httpx import AsyncClient
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

from pipeline import topology
from pipeline.bootstrap.control_plane import Services as Yard
from pipeline.records.kernel import Change, now
from pipeline.records.messages import event
from schemas.access import Role
from schemas.image import Image
from schemas.message import Message
from tests.support.tenants import Tenant
from tests.support.tracing import recorded_spans
from tests.support.waiting import eventually

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
NOWHERE = "127.0.0.1:9/team/none:1"
"""Nothing listens there: workers try again, which is told, too."""


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    with recorded_spans() as exporter:
        yield exporter


def of_trace(exporter: InMemorySpanExporter, trace: str) -> Sequence[ReadableSpan]:
    return [
        each
        for each in exporter.get_finished_spans()
        if each.context is not None and format_trace_id(each.context.trace_id) == trace
    ]


def named(spans: Sequence[ReadableSpan], name: str) -> ReadableSpan:
    return next(each for each in spans if each.name == name)


async def submitted(http: AsyncClient, yard: Yard, **headers: str) -> Any:
    tenant = Tenant(yard.access)
    answer = await http.post(
        "/images",
        json={"reference": NOWHERE, "name": "traced"},
        headers=await tenant.headers(Role.MEMBER) | headers,
    )
    assert answer.status_code == 202, answer.text
    return tenant, answer.json()


async def test_a_submission_is_one_trace_from_its_caller_to_the_worker(
    http: AsyncClient, yard: Yard, exporter: InMemorySpanExporter
) -> None:
    tenant, image = await submitted(http, yard, traceparent=PARENT)
    await eventually(
        lambda: any(each.name == "image-validate" for each in of_trace(exporter, TRACE))
    )
    spans = of_trace(exporter, TRACE)
    asked, worked = named(spans, "POST /yard/v1/images"), named(spans, "image-validate")
    assert asked.parent is not None
    assert format_span_id(asked.parent.span_id) == "b7ad6b7169203331"
    assert worked.parent is not None
    assert worked.parent.span_id == asked.context.span_id  # type: ignore[union-attr]
    assert (asked.kind, worked.kind) == (SpanKind.SERVER, SpanKind.CONSUMER)
    assert asked.attributes is not None
    assert asked.attributes["http.response.status_code"] == 202
    assert worked.attributes is not None
    subject = topology.command(tenant.org, "image", "validate")
    assert worked.attributes["messaging.destination.name"] == subject
    record = await yard.records.store.get(Image, image["uuid"], org=tenant.org)
    assert record.traceparent is not None
    assert record.traceparent.split("-")[1] == TRACE
    about = topology.events_of(tenant.org, "image", image["uuid"])
    batch = await yard.bus.read_batch(topology.EVENTS.name, after=0, subject=about)
    assert batch.messages
    assert {each.headers["traceparent"].split("-")[1] for each in batch.messages} == {TRACE}
    assert "traceparent" not in image


async def test_what_a_sweep_takes_up_again_stays_in_its_trace(
    http: AsyncClient, yard: Yard, exporter: InMemorySpanExporter
) -> None:
    tenant, image = await submitted(http, yard, traceparent=PARENT)
    record = await yard.records.store.get(Image, image["uuid"], org=tenant.org)
    seen = Change({}, send=[event("seen-later")])
    await yard.records.amend(record, lambda _image, _at: seen)
    about = topology.events_of(tenant.org, "image", image["uuid"])
    batch = await yard.bus.read_batch(topology.EVENTS.name, after=0, subject=about)
    [told] = [each for each in batch.messages if each.subject.endswith(".seen-later")]
    assert told.headers["traceparent"].split("-")[1] == TRACE


async def test_a_command_by_the_queue_goes_on_in_its_senders_trace(
    yard: Yard, exporter: InMemorySpanExporter
) -> None:
    org = Tenant(yard.access).org
    await yard.bus.publish(
        Message(
            id="traced-command",
            subject=topology.command(org, "image", "delete"),
            type="modelyard.cmd.image.delete",
            time=now(),
            traceparent=PARENT,
            data={"id": "0a8f8a4e-93f1-4c5f-8a64-0e5a1cf1f7a0"},
        )
    )
    await eventually(lambda: of_trace(exporter, TRACE))
    first = named(of_trace(exporter, TRACE), "image-delete")
    assert first.status.status_code is StatusCode.ERROR, "there is no such image"
    assert first.attributes is not None
    assert first.attributes["modelyard.outcome"] in ("retried", "buried")


async def test_a_request_that_brings_no_trace_begins_one_and_probes_do_not(
    http: AsyncClient, yard: Yard, exporter: InMemorySpanExporter
) -> None:
    headers = await Tenant(yard.access).headers(Role.VIEWER)
    await http.get("http://yard/healthz")
    await http.get("/images/0a8f8a4e-93f1-4c5f-8a64-0e5a1cf1f7a0", headers=headers)
    [span] = [each for each in exporter.get_finished_spans() if each.kind is SpanKind.SERVER]
    assert span.name == "GET /yard/v1/images/{uuid}"
    assert span.parent is None
    assert "0a8f8a4e" not in span.to_json()


async def test_where_nothing_is_recorded_records_keep_no_trace(
    http: AsyncClient, yard: Yard
) -> None:
    tenant, image = await submitted(http, yard)
    record = await yard.records.store.get(Image, image["uuid"], org=tenant.org)
    assert record.traceparent is None
