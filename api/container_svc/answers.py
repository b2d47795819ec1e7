"""How requests of the container service are read, and how its failures look: `error` and `code`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api.http.answers import JSON
from api.http.problem_details import SHOWN_FACTS, Failure
from pipeline import errors, strict_json
from pipeline.errors import InvalidInput, YardError

M = TypeVar("M", bound=BaseModel)


class ErrorBody(BaseModel):
    error: str
    code: str


def failures(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documented failures of a route."""
    return {status: {"model": ErrorBody} for status in (401, *statuses, 503)}


def body_of(example: Mapping[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": {"type": "object"}, "example": dict(example)}}
    return {"requestBody": {"required": True, "content": content}}


def json_answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(json.dumps(body), status, headers, JSON)


async def read(request: Request, kind: type[M]) -> M:
    """The body, whatever its content type says; null is as good as absent, what is unknown is
    ignored. Raises HTTPException for what is no JSON, InvalidInput."""
    body = await request.body()
    try:
        value = strict_json.read(body, max_bytes=len(body))
    except InvalidInput as error:
        raise HTTPException(400, "The body is not JSON.") from error
    if not isinstance(value, dict):
        raise InvalidInput("The body is a JSON object.")
    try:
        return kind.model_validate(_without_nulls(value))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or "body"
        raise InvalidInput(f"{field}: {first['msg']}.", field=field) from error


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(each) for name, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value


_CLASSES: Final[Mapping[str, type[YardError]]] = {kind.code: kind for kind in errors.every_error()}


def unsuccessful(
    code: str | None, message: str, *, otherwise: type[YardError] = errors.EngineError
) -> YardError:
    """The error for what was asked for and came to nothing, by the code that its record keeps."""
    kind = _CLASSES.get(code or "", otherwise)
    return kind(message, came_to_nothing=True)


_STATUSES: Final[Mapping[type[YardError], int]] = {
    errors.PermissionDenied: 401,
    errors.InvalidInput: 400,
    errors.InvalidReference: 400,
    errors.KeyReused: 400,
    errors.NoCapacity: 409,
    errors.Conflict: 409,
    errors.PullFailed: 422,
    errors.Unreachable: 422,
    errors.AddressRefused: 422,
    errors.RegistryProtocolError: 502,
    errors.Timeout: 504,
}
"""Where they differ from those of other doors."""
_OUTCOMES: Final = frozenset({409, 502, 503})
"""What may become of something that was well asked for, besides 422."""


def render(failure: Failure, path: str) -> Response:
    """The renderer of the door."""
    body: dict[str, Any] = {"error": failure.detail, "code": failure.code}
    cause, headers = failure.cause, dict(failure.headers)
    if isinstance(cause, YardError):
        body |= {name: cause.facts[name] for name in SHOWN_FACTS if name in cause.facts}
        body |= {name: cause.facts[name] for name in ("operationId",) if name in cause.facts}
    status = _status(failure)
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return json_answer(body, status, headers)


def _status(failure: Failure) -> int:
    cause = failure.cause
    if not isinstance(cause, YardError):
        return 400 if failure.status == 422 else failure.status
    own = (_STATUSES[kind] for kind in type(cause).__mro__ if kind in _STATUSES)
    status = next(own, failure.status)
    return 422 if "came_to_nothing" in cause.facts and status not in _OUTCOMES else status
