"""What operators see of a process: log lines, metrics, and traces that cross processes."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PROPAGATOR = TraceContextTextMapPropagator()
_FIELDS: ContextVar[Mapping[str, str]] = ContextVar("log_fields", default={})  # noqa: B039
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

HIDDEN = "[hidden]"
_SECRET_NAME = (
    r"[\w-]*(?:password|passwd|secret|token|api[_-]?key|authorization|credential|private[_-]?key"
    r"|signing[_-]?key|encryption[_-]?keys?)[\w-]*"
)
_PATTERNS = (
    # user:password@ in any address
    (re.compile(r"(?P<keep>[a-z][a-z0-9+.-]*://)[^\s/@]+@", re.IGNORECASE), rf"\g<keep>{HIDDEN}@"),
    (re.compile(r"\b(?P<keep>Bearer|Basic|ApiKey)\s+[\w.~+/=:-]+", re.IGNORECASE),
     rf"\g<keep> {HIDDEN}"),
    (re.compile(r"\beyJ[\w-]{5,}\.[\w-]+\.[\w-]*"), HIDDEN),
    (re.compile(
        rf"(?P<keep>\b{_SECRET_NAME}[\"']?\s*[=:]\s*)(?:\"[^\"]*\"|'[^']*'|(?!\s)[^\s,;&}})\]]+)",
        re.IGNORECASE,
    ), rf"\g<keep>{HIDDEN}"),
)  # fmt: skip
_SECRET_FIELD = re.compile(_SECRET_NAME, re.IGNORECASE)


def configure_logging(level: str, *, output: TextIO | None = None) -> None:
    """One JSON object per line on standard error, secrets hidden. Replaces earlier handlers."""
    handler = logging.StreamHandler(output or sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


@contextmanager
def log_fields(**fields: str | None) -> Iterator[None]:
    """Add fields to every line that is logged inside, in this task and those it starts."""
    named = {name: value for name, value in fields.items() if value is not None}
    reset = _FIELDS.set({**_FIELDS.get(), **named})
    try:
        yield
    finally:
        _FIELDS.reset(reset)


class JsonLines(logging.Formatter):
    """One JSON object per line; whatever looks like a credential is redacted."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        line |= {name: _safe(name, value) for name, value in self._extras(record).items()}
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = redact(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)

    def _extras(self, record: logging.LogRecord) -> dict[str, Any]:
        own = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        return {**_FIELDS.get(), **own}


def redact(text: str) -> str:
    """Hide what looks like a credential: passwords in addresses, tokens, `password=…` pairs."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def _safe(name: str, value: Any) -> Any:
    if _SECRET_FIELD.fullmatch(name):
        return HIDDEN
    return redact(value) if isinstance(value, str) else value


def current_traceparent() -> str | None:
    """The W3C header for whatever is sent from here, or None outside of any trace."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent")


@contextmanager
def span(name: str, *, traceparent: str | None, kind: trace.SpanKind) -> Iterator[trace.Span]:
    """Work that continues the caller's trace.

    With only the OpenTelemetry API installed nothing is recorded and the caller's context is
    passed on as it came; an operator who configures the SDK gets real spans.
    """
    caller = _PROPAGATOR.extract({"traceparent": traceparent} if traceparent else {})
    tracer = trace.get_tracer("modelyard")
    with tracer.start_as_current_span(name, context=caller, kind=kind) as current:
        yield current
