"""Where an error becomes an HTTP answer, and how the answer looks by default (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from pipeline import errors
from schemas.problem import Problem

MEDIA_TYPE = "application/problem+json"

STATUS: Mapping[type[errors.YardError], int] = {
    errors.YardError: 500,
    errors.InvalidInput: 422,
    errors.InvalidReference: 422,
    errors.MalformedRequest: 400,
    errors.ChecksumMismatch: 460,
    errors.KeyReused: 422,
    errors.Unauthenticated: 401,
    errors.PermissionDenied: 403,
    errors.NotFound: 404,
    errors.Gone: 410,
    errors.Conflict: 409,
    errors.NotReady: 409,
    errors.AlreadyExists: 409,
    errors.IllegalTransition: 409,
    errors.LostRace: 409,
    errors.Superseded: 409,
    errors.StaleRevision: 412,
    errors.TooLarge: 413,
    errors.TooManyRequests: 429,
    errors.Fenced: 409,
    errors.CannotPlace: 422,
    errors.NoCapacity: 409,
    errors.ImageRejected: 422,
    errors.DigestMismatch: 422,
    errors.NotATar: 422,
    errors.TarTruncated: 422,
    errors.TarUnsafePath: 422,
    errors.TarUnsafeEntry: 422,
    errors.TarDuplicateEntry: 422,
    errors.ArchiveBomb: 422,
    errors.ImageIncomplete: 422,
    errors.ImageAmbiguous: 422,
    errors.WrongPlatform: 422,
    errors.ModelRefused: 422,
    errors.CrashLoop: 422,
    errors.GpuUnavailable: 422,
    errors.InsufficientResources: 422,
    errors.LaunchFailed: 422,
    errors.NeverListened: 422,
    errors.PlatformUnavailable: 422,
    errors.RunFailed: 422,
    errors.RunTimedOut: 422,
    errors.StatusContentType: 422,
    errors.StatusError: 422,
    errors.StatusNotJson: 422,
    errors.RegistryError: 502,
    errors.RegistryDenied: 422,
    errors.ManifestNotFound: 422,
    errors.RegistryProtocolError: 502,
    errors.RegistryUnavailable: 502,
    errors.AddressRefused: 422,
    errors.CallFailed: 502,
    errors.NotListening: 502,
    errors.CallTimedOut: 504,
    errors.EngineError: 502,
    errors.EngineUnavailable: 503,
    errors.PullFailed: 502,
    errors.PullImpossible: 422,
    errors.PullDenied: 422,
    errors.DiskFull: 507,
    errors.PortTaken: 409,
    errors.ForeignContainer: 409,
    errors.ContainerMissing: 404,
    errors.ImageMissing: 422,
    errors.PathMissing: 404,
    errors.CreateFailed: 422,
    errors.StartFailed: 422,
    errors.GpusUnreadable: 503,
    errors.StoreUnavailable: 503,
    errors.BusUnavailable: 503,
    errors.Overloaded: 503,
    errors.Timeout: 504,
    errors.Misconfigured: 500,
    errors.PoisonMessage: 422,
}
"""Every class by itself: a test walks `errors.every_error()`."""

SHOWN_FACTS = ("findings", "limit", "nodes", "operation", "retry_after_s", "tags")
"""Facts of an error that callers see. The others (names of indexes, say) are for the log."""

_OWN_PHRASES = {460: "Checksum Mismatch"}
"""Of statuses that tus made up."""

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
    parts = location[1:] if location and location[0] in _PLACES else location
    return ".".join(str(part) for part in parts) or str(location[0] if location else "body")


_PLACES = frozenset({"body", "query", "path", "header", "cookie"})


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
