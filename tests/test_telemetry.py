"""Log lines without secrets, fields that follow the task, traces that cross processes."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.trace import SpanKind

from pipeline.telemetry import (
    JsonLines,
    concealing,
    current_traceparent,
    in_trace,
    log_fields,
    redact,
    span,
)

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def lines() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    output = io.StringIO()
    handler = logging.StreamHandler(output)
    handler.setFormatter(JsonLines())
    logger = logging.Logger("yard.test")
    logger.addHandler(handler)
    yield logger, output
    handler.close()


def read(output: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_a_line_is_one_json_object(lines: tuple[logging.Logger, io.StringIO]) -> None:
    logger, output = lines
    logger.warning("two\nlines %d", 1, extra={"stage": "image-create"})
    [line] = read(output)
    assert line["message"] == "two\nlines 1"
    assert line["level"] == "warning"
    assert line["stage"] == "image-create"
    assert line["time"].endswith("+00:00")


def test_an_exception_keeps_its_stack_and_loses_its_secrets(
    lines: tuple[logging.Logger, io.StringIO],
) -> None:
    logger, output = lines
    try:
        raise ValueError("mongodb://user:hunter2@db/x")
    except ValueError:
        logger.exception("failed")
    [line] = read(output)
    assert "test_an_exception_keeps" in line["exception"]
    assert "hunter2" not in output.getvalue()


def test_concealed_values_are_hidden_quoted_escaped_or_cut_and_only_inside() -> None:
    values = {"a secret\nof two lines", "x9", "of two lines"}
    text = "got 'a secret\\nof two lines', 'x9', x9y, \"a secret\\nof two…\", a secret of two lines"
    with concealing(lambda: values):
        assert redact(text) == "got '[hidden]', [hidden], x9y, \"[hidden] two…\", [hidden]"
    assert redact(text) == text


def test_what_is_concealed_is_looked_for_once_also_when_that_redacts() -> None:
    looks = []

    def values() -> list[str]:
        looks.append(redact("an outer-value in an inner-value"))
        return ["inner-value"]

    with concealing(lambda: ["outer-value"]), concealing(values):
        assert redact("an outer-value in an inner-value") == "an [hidden] in an [hidden]"
    assert looks == ["an [hidden] in an inner-value"]


def test_fields_that_hold_secrets_are_hidden(lines: tuple[logging.Logger, io.StringIO]) -> None:
    logger, output = lines
    logger.info("login", extra={"password": "hunter2", "api_key": "k", "who": "token=abc123"})
    [line] = read(output)
    assert line["password"] == line["api_key"] == "[hidden]"
    assert "abc123" not in output.getvalue()


async def test_fields_follow_the_task_and_those_it_starts(
    lines: tuple[logging.Logger, io.StringIO],
) -> None:
    logger, output = lines

    async def work(number: int) -> None:
        with log_fields(message_id=str(number), absent=None):
            await asyncio.sleep(0)
            await asyncio.create_task(inner())

    async def inner() -> None:
        logger.info("inside")

    await asyncio.gather(work(1), work(2))
    logger.info("outside")
    inside = read(output)
    assert sorted(line.get("message_id", "") for line in inside) == ["", "1", "2"]
    assert not any("absent" in line for line in inside)


@pytest.mark.parametrize(
    "text",
    [
        "nats://user:s3cr3t@broker:4222 refused",
        "mongodb+srv://a:s3cr3t@host/?x=1",
        "https://s3cr3t@host/path",
        "Authorization: Bearer s3cr3t.s3cr3t",
        "sent Basic czNjcjN0OnMzY3IzdA== to it",
        "authorization: ApiKey s3cr3t",
        "token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJzM2NyM3QifQ.s3cr3tsignature",
        "password=s3cr3t&next=1",
        'body {"password": "s3cr3t", "name": "x"}',
        "{'registry_password': 's3cr3t'}",
        "client_secret: s3cr3t",
        "MODELYARD_SIGNING_KEY=s3cr3t",
        "api-key=s3cr3t",
        "X-Api-Key: s3cr3t",
    ],
)
def test_what_looks_like_a_credential_is_hidden(text: str) -> None:
    told = redact(text)
    for secret in ("s3cr3t", "czNjcjN0", "eyJzdWIi"):
        assert secret not in told
    assert "[hidden]" in told


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1:5000/team/model:1.0 has no manifest for linux/arm64",
        "https://registry.example/v2/ answered 401",
        "the token is missing",
        "container 8f2e is RUNNING; attempt 3 failed, next in 9.0 s",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "mail me at somebody@example.org",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert redact(text) == text


def test_a_trace_goes_on_through_a_span() -> None:
    assert current_traceparent() is None
    with span("work", traceparent=TRACEPARENT, kind=SpanKind.CONSUMER):
        told = current_traceparent()
        assert told is not None
        assert told.split("-")[1] == TRACEPARENT.split("-")[1]
    assert current_traceparent() is None


@pytest.mark.parametrize("traceparent", [None, "", "nonsense", "00-zz-zz-01"])
def test_a_missing_or_broken_trace_harms_nothing(traceparent: str | None) -> None:
    with span("work", traceparent=traceparent, kind=SpanKind.CONSUMER):
        assert current_traceparent() is None


def test_a_line_names_the_trace_in_which_it_was_written(
    lines: tuple[logging.Logger, io.StringIO],
) -> None:
    logger, output = lines
    with span("work", traceparent=TRACEPARENT, kind=SpanKind.CONSUMER):
        logger.warning("inside")
    logger.warning("outside")
    inside, outside = read(output)
    assert inside["trace_id"] == TRACEPARENT.split("-")[1]
    assert len(inside["span_id"]) == 16
    assert "trace_id" not in outside


def test_what_follows_from_something_else_belongs_to_no_trace_of_now() -> None:
    with span("work", traceparent=TRACEPARENT, kind=SpanKind.CONSUMER):
        with in_trace(None):
            assert current_traceparent() is None
        assert current_traceparent() is not None
    with in_trace(TRACEPARENT):
        assert current_traceparent() == TRACEPARENT
