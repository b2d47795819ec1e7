"""What operators see of a process: log lines, counts, and traces that cross processes."""

from __future__ import annotations

import functools
import json
import logging
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from opentelemetry import context, trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PROPAGATOR = TraceContextTextMapPropagator()
_CONCEALED: ContextVar[tuple[Callable[[], Collection[str]], ...]] = ContextVar(
    "concealed", default=()
)
_CAUSE: ContextVar[str | None] = ContextVar("cause", default=None)
_ORIGIN: ContextVar[str | None] = ContextVar("origin", default=None)
_FIELDS: ContextVar[Mapping[str, str]] = ContextVar("log_fields", default={})  # noqa: B039
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

HIDDEN = "[hidden]"
WHOLE_WORDS = 4
"""Concealed values shorter than this are hidden where they are quoted only: `1` is everywhere."""
BEGINNING = 12
"""A concealed value is recognized by so many characters where a text cut it short."""
_SECRET_NAME = (
    r"[\w-]*(?:password|passwd|secret|token|api[_-]?key|authorization|credential|private[_-]?key"
    r"|signing[_-]?key|encryption[_-]?keys?)[\w-]*"
)
_PATTERNS = (
    # user:password@ in any address, also where the scheme is left out; not a tag with a digest
    (re.compile(r"(?P<keep>[a-z][a-z0-9+.-]*://)[^\s/@]+@", re.IGNORECASE), rf"\g<keep>{HIDDEN}@"),
    (re.compile(r"(?<![\w./:-])[\w.+-]+:[^\s/@:\"']+@(?!sha\d+:)(?=[\w.-])"), f"{HIDDEN}@"),
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
        return {**_trace_fields(), **_FIELDS.get(), **own}


@contextmanager
def concealing(values: Callable[[], Collection[str]]) -> Iterator[None]:
    """Hide these values in everything that is logged or redacted inside.

    They are asked for when the first text is looked at, once.
    """
    outside = _CONCEALED.get()

    @functools.cache
    def asked() -> Collection[str]:
        # Who looks for them redacts texts on the way, for which they cannot be asked for again.
        inside = _CONCEALED.set(outside)
        try:
            return values()
        finally:
            _CONCEALED.reset(inside)

    reset = _CONCEALED.set((*outside, asked))
    try:
        yield
    finally:
        _CONCEALED.reset(reset)


@contextmanager
def caused_by(id: str | None) -> Iterator[None]:
    """What is written inside, in this task and those it starts, follows from that command."""
    reset = _CAUSE.set(id)
    try:
        yield
    finally:
        _CAUSE.reset(reset)


def current_cause() -> str | None:
    """Id of the command or request that is being carried out; None outside of any."""
    return _CAUSE.get()


@contextmanager
def coming_from(address: str | None) -> Iterator[None]:
    """What is asked for inside, in this task and those it starts, comes from that address."""
    reset = _ORIGIN.set(address)
    try:
        yield
    finally:
        _ORIGIN.reset(reset)


def current_origin() -> str | None:
    """Address of whoever sent the request that is being carried out; None outside of any."""
    return _ORIGIN.get()


@dataclass(frozen=True, slots=True)
class Counted:
    """Something that this process counts. `name` is that of the metric, without `_total`."""

    name: str
    meaning: str
    labels: tuple[str, ...]


EVENTS: Final = Counted(
    "modelyard_events", "Events that this process has published.", ("resource", "kind")
)
TRANSFERRED: Final = Counted(
    "modelyard_transfer_bytes",
    "Bytes that this process has taken in (archive) or has had its engine pull (pull).",
    ("what",),
)
COUNTED: Final = (EVENTS, TRANSFERRED)
_COUNTS: Final[dict[Counted, dict[tuple[str, ...], float]]] = {each: {} for each in COUNTED}


def count(what: Counted, *labels: str, by: float = 1) -> None:
    """Add to a count. From the event loop's thread only."""
    found = _COUNTS[what]
    found[labels] = found.get(labels, 0) + by


def counts(what: Counted) -> dict[tuple[str, ...], float]:
    """By the values of its labels, since this process began."""
    return dict(_COUNTS[what])


def redact(text: str) -> str:
    """Hide what looks like a credential: passwords in addresses, tokens, `password=…` pairs.

    And the values of `concealing`, also where they were quoted, escaped or cut.
    """
    for values in _CONCEALED.get():
        # The longest first: one may be part of another.
        for value in sorted(values(), key=len, reverse=True):
            text = _concealed(value, text)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def _concealed(value: str, text: str) -> str:
    if len(value) < WHOLE_WORDS:
        quoted = re.compile(rf"([\"'`]){re.escape(value)}\1") if value else None
        return quoted.sub(HIDDEN, text) if quoted and value in text else text
    for form in {value, repr(value)[1:-1], json.dumps(value)[1:-1], " ".join(value.split())}:
        text = text.replace(form, HIDDEN) if form else text
        if len(form) > BEGINNING and form[:BEGINNING] in text:
            text = re.sub(rf"{re.escape(form[:BEGINNING])}[^\s\"'`]*", HIDDEN, text)
    return text


def is_secret_name(name: str) -> bool:
    """Does a field of this name hold a credential?"""
    return _SECRET_FIELD.fullmatch(name) is not None


def _safe(name: str, value: Any) -> Any:
    if is_secret_name(name):
        return HIDDEN
    return redact(value) if isinstance(value, str) else value


def current_traceparent() -> str | None:
    """The W3C header for whatever is sent from here, or None outside of any trace."""
    if not trace.get_current_span().get_span_context().is_valid:
        return None
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent")


_PROVIDER: Final[list[trace.TracerProvider]] = []
"""At most one: the tracing of this process."""


@contextmanager
def recording(provider: trace.TracerProvider) -> Iterator[None]:
    """Have `span` record with this provider, in the whole process, while it is open."""
    _PROVIDER.append(provider)
    try:
        yield
    finally:
        _PROVIDER.remove(provider)


def is_recording() -> bool:
    return bool(_PROVIDER)


@contextmanager
def span(
    name: str,
    *,
    traceparent: str | None,
    kind: trace.SpanKind,
    attributes: Mapping[str, str | int] | None = None,
) -> Iterator[trace.Span]:
    """Work that continues the caller's trace.

    Where nobody records (`recording`) the caller's context is passed on as it came, and without
    one nothing is done. What is raised inside is recorded with its type; a text may hold secrets.
    """
    if not _PROVIDER and not traceparent:
        yield trace.INVALID_SPAN
        return
    caller = _PROPAGATOR.extract({"traceparent": traceparent} if traceparent else {})
    provider = _PROVIDER[-1] if _PROVIDER else trace.NoOpTracerProvider()
    with provider.get_tracer("modelyard").start_as_current_span(
        name,
        context=caller,
        kind=kind,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield current
        except Exception as error:
            current.set_attribute("error.type", type(error).__qualname__)
            current.set_status(trace.StatusCode.ERROR)
            raise


@contextmanager
def in_trace(traceparent: str | None) -> Iterator[None]:
    """What is written and sent inside belongs to that trace, or to none."""
    given = {"traceparent": traceparent} if traceparent else {}
    token = context.attach(_PROPAGATOR.extract(given, context.Context()))
    try:
        yield
    finally:
        context.detach(token)


def _trace_fields() -> dict[str, str]:
    current = trace.get_current_span().get_span_context()
    if not current.is_valid:
        return {}
    ids = trace.format_trace_id(current.trace_id), trace.format_span_id(current.span_id)
    return {"trace_id": ids[0], "span_id": ids[1]}
