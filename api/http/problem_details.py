"""Where an error becomes an HTTP answer: with which status, how it looks (like RFC 9457, unless the
door of its path says otherwise) and how it is documented."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.middleware import Methods
from pipeline import errors

MEDIA_TYPE = "application/problem+json"

log = logging.getLogger(__name__)


class Problem(BaseModel):
    model_config = ConfigDict(extra="allow")

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    instance: str | None = None
    code: str
    """Stable snake_case, the same as the error class in `pipeline.errors`."""
    errors: list[dict[str, Any]] | None = None
    """One entry per bad field: `field`, `message`."""


_KINDS: Mapping[int, Sequence[type[errors.YardError]]] = {
    400: (errors.MalformedRequest,),
    401: (errors.Unauthenticated,),
    403: (errors.PermissionDenied,),
    404: (errors.NotFound, errors.ContainerMissing, errors.PathMissing),
    409: (
        errors.Conflict, errors.NotReady, errors.AlreadyExists, errors.IllegalTransition,
        errors.LostRace, errors.Superseded, errors.Fenced, errors.NoCapacity, errors.PortTaken,
        errors.ForeignContainer, errors.QuotaExceeded,
    ),
    410: (errors.Gone,),
    412: (errors.StaleRevision,),
    413: (errors.TooLarge,),
    422: (
        errors.InvalidInput, errors.InvalidReference, errors.KeyReused, errors.CannotPlace,
        errors.ImageRejected, errors.DigestMismatch, errors.NotATar, errors.TarTruncated,
        errors.TarUnsafePath, errors.TarUnsafeEntry, errors.TarDuplicateEntry, errors.ArchiveBomb,
        errors.ImageIncomplete, errors.ImageAmbiguous, errors.WrongPlatform, errors.ModelRefused,
        errors.CrashLoop, errors.GpuUnavailable, errors.InsufficientResources, errors.LaunchFailed,
        errors.NeverListened, errors.PlatformUnavailable, errors.RunFailed, errors.RunTimedOut,
        errors.StatusContentType, errors.StatusError, errors.StatusNotJson, errors.RegistryDenied,
        errors.ManifestNotFound, errors.AddressRefused, errors.PullImpossible, errors.PullDenied,
        errors.ImageMissing, errors.CreateFailed, errors.StartFailed, errors.PoisonMessage,
        errors.BuildFailed,
    ),
    429: (errors.TooManyRequests,),
    460: (errors.ChecksumMismatch,),
    500: (errors.YardError, errors.Misconfigured),
    502: (
        errors.RegistryError, errors.RegistryProtocolError, errors.RegistryUnavailable,
        errors.Unreachable, errors.CallFailed, errors.NotListening, errors.EngineError,
        errors.PullFailed,
    ),
    503: (
        errors.EngineUnavailable, errors.GpusUnreadable, errors.StoreUnavailable,
        errors.BusUnavailable, errors.Overloaded, errors.NoReplica,
    ),
    504: (errors.CallTimedOut, errors.Timeout),
    507: (errors.DiskFull,),
}  # fmt: skip
STATUS = {kind: status for status, kinds in _KINDS.items() for kind in kinds}
"""Every class by itself: a test walks `errors.every_error()`."""

SHOWN_FACTS = (
    *("findings", "limit", "nodes", "operation", "quota", "retry_after_s", "tags", "used"),
)
"""Facts of an error that callers see. The others (names of indexes, say) are for the log."""

_OWN_PHRASES = {414: "URI Too Long", 460: "Checksum Mismatch"}
"""As RFC 9110 has it, and of a status that tus made up."""

_CODES = {
    400: "malformed_request",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    408: "request_timeout",
    413: "too_large",
    415: "unsupported_media_type",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong, before a door gives it its shape."""

    status: int
    code: str
    detail: str
    errors: Sequence[Mapping[str, str]] = ()
    """One `field`, `message` per bad field."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    instance: str | None = None
    cause: BaseException | None = None
    """For doors that answer one class in a way of their own."""

    @property
    def title(self) -> str:
        return _OWN_PHRASES.get(self.status) or HTTPStatus(self.status).phrase


def failure(error: Exception) -> Failure:
    """The failure that a known error means. Raises the error again when it is not a known one."""
    match error:
        case errors.YardError():
            return _foreseen(error)
        case RequestValidationError():
            return _invalid(error)
        case HTTPException():
            return _refused(error)
    raise error


def unforeseen(error: Exception, incident: str) -> Failure:
    """Says nothing about the inside: the log has it under the same incident."""
    detail = f"Something went wrong on our side. Quote incident {incident} when you report it."
    return Failure(500, "internal_error", detail, instance=f"urn:uuid:{incident}", cause=error)


def render(failure: Failure, path: str) -> Response:
    """The default renderer: `application/problem+json`."""
    problem = Problem(
        title=failure.title,
        status=failure.status,
        detail=failure.detail,
        instance=failure.instance,
        code=failure.code,
        errors=[dict(one) for one in failure.errors] or None,
        **failure.facts,
    )
    body = problem.model_dump_json(exclude_none=True)
    return Response(body, failure.status, dict(failure.headers), media_type=MEDIA_TYPE)


def status_of(kind: type[errors.YardError]) -> int:
    """The status of the class, or of its nearest ancestor in the map."""
    return next(STATUS[ancestor] for ancestor in kind.__mro__ if ancestor in STATUS)


def _foreseen(error: errors.YardError) -> Failure:
    bad_field = error.facts.get("field")
    return Failure(
        status_of(type(error)),
        error.code,
        error.message,
        errors=[{"field": str(bad_field), "message": error.message}] if bad_field else (),
        facts={name: error.facts[name] for name in SHOWN_FACTS if name in error.facts},
        headers=_headers(error),
        cause=error,
    )


def _headers(error: errors.YardError) -> dict[str, str]:
    if isinstance(error, errors.Unauthenticated):
        return {"WWW-Authenticate": "Bearer"}
    if "retry_after_s" in error.facts:
        return {"Retry-After": str(max(1, round(error.facts["retry_after_s"])))}
    return {"Retry-After": "1"} if status_of(type(error)) == 503 else {}


def _invalid(error: RequestValidationError) -> Failure:
    found = error.errors()
    if any(one["type"] == "json_invalid" for one in found):
        detail = "The body is not JSON."
        return Failure(400, "malformed_json", detail, cause=error)
    fields = [{"field": _path(one["loc"]), "message": one["msg"]} for one in found]
    detail = "; ".join(f"{one['field']}: {one['message']}" for one in fields[:5])
    return Failure(422, errors.InvalidInput.code, detail, errors=fields, cause=error)


def _path(location: Sequence[Any]) -> str:
    places = ("body", "query", "path", "header", "cookie")
    parts = location[1:] if location and location[0] in places else location
    return ".".join(str(part) for part in parts) or str(location[0] if location else "body")


def _refused(error: HTTPException) -> Failure:
    status = error.status_code
    detail = str(error.detail)
    if detail == HTTPStatus(status).phrase:
        detail = _PLAIN.get(status, detail)
    headers = dict(error.headers or {})
    return Failure(status, _CODES.get(status, "refused"), detail, headers=headers, cause=error)


_PLAIN = {
    404: "There is nothing at this path.",
    405: "This path does not know this method: the Allow header lists those it knows.",
}
"""Clearer than the bare phrase that the router gives."""


Renderer = Callable[[Failure, str], Response]
"""Makes the answer of a failure that happened under the given path."""


class ErrorRenderers:
    """Which renderer speaks for which path. Paths of no door answer with problem details."""

    def __init__(self) -> None:
        self._renderers: dict[str, Renderer] = {}

    def register(self, prefix: str, renderer: Renderer) -> None:
        """`prefix` counts whole segments: `/api` covers `/api` and `/api/x`, not `/apis`."""
        self._renderers[prefix.rstrip("/")] = renderer

    def answer(self, failure: Failure, path: str) -> Response:
        return self._renderer(path)(failure, path)

    def _renderer(self, path: str) -> Renderer:
        """That of the longest prefix."""
        prefix = path.rstrip("/")
        while prefix:
            if prefix in self._renderers:
                return self._renderers[prefix]
            prefix = prefix.rpartition("/")[0]
        return render


def install(app: FastAPI, renderers: ErrorRenderers, methods: Methods) -> None:
    """Have `app` answer every foreseen error through `renderers`."""

    async def answer(request: Request, error: Exception) -> Response:
        path = request.scope["path"]
        known = failure(error)
        if known.status == 405:
            known = _with_allow(known, methods.of(path))
        if known.status >= 500:
            log.warning("%s %s failed: %s", request.method, path, known.detail, exc_info=error)
        return renderers.answer(known, path)

    for kind in (errors.YardError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, answer)


class Unforeseen:
    """Answers 500 for what nobody foresaw; the log has it under the incident of the answer.

    A caller who hangs up in the middle of his request is no such thing.
    """

    def __init__(self, app: ASGIApp, renderers: ErrorRenderers) -> None:
        self._app = app
        self._renderers = renderers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            # Nobody is left to answer, and nothing of ours failed.
            log.info("%s %s was cut off by its caller", scope["method"], scope["path"])
        except Exception as error:
            incident = str(uuid.uuid4())
            log.exception("Incident %s in %s %s", incident, scope["method"], scope["path"])
            if started:
                raise  # too late for an answer: the server closes the connection
            response = self._renderers.answer(unforeseen(error, incident), scope["path"])
            await response(scope, receive, send)


def _with_allow(failure: Failure, known: frozenset[str]) -> Failure:
    if "GET" in known:
        known |= {"HEAD"}
    return replace(failure, headers={"Allow": ", ".join(sorted(known))})


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documented failures of a route; every guarded one has 401 and 403."""
    return {status: _problem(MEANINGS[status]) for status in (401, 403, *statuses)}


def _problem(description: str) -> dict[str, Any]:
    return {
        "model": Problem,
        "description": description,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


MEANINGS: Mapping[int, str] = {
    400: "The body is not JSON.",
    401: "No token, or one that is wrong, expired or revoked.",
    403: "The token lacks the permission.",
    404: "There is no such record in the caller's organisation.",
    406: "None of the types in Accept can be had.",
    409: "The state of the record, or another record, is in the way.",
    408: "Nothing came for too long.",
    410: "It was here and is no more.",
    412: "If-Match names another revision, or another version of tus is spoken.",
    413: "The body is too large.",
    415: "The body is not declared as JSON.",
    422: "Well-formed, but unacceptable: `errors` names each field.",
    429: "Too many attempts: wait for as long as Retry-After says.",
    460: "The bytes are not those of Upload-Checksum.",
    502: "What lies behind answered wrongly.",
    503: "The store, the broker or a node does not answer.",
    504: "No answer in time; the work goes on.",
    507: "A disk of ours is full.",
}
