"""Errors with one member, `detail`: a text, or an object of fields with their messages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api.answers import JSON
from api.problems import Failure
from pipeline import errors
from pipeline.errors import InvalidInput, PermissionDenied
from pipeline.rules import strict_json
from schemas.access import Principal

_DENIED = "You do not have permission to perform this action."
_UNAVAILABLE = "The service is unavailable at the moment: try again."
_UNEXPECTED = "An unexpected error occurred: "


def render(failure: Failure, path: str) -> Response:
    """The renderer of the doors that speak so."""
    status = 400 if failure.status in (409, 422) else failure.status
    body = {"detail": _detail(failure)}
    return Response(json.dumps(body), status, dict(failure.headers), JSON)


async def read_object(request: Request) -> dict[str, Any]:
    """The body, whatever its content type says. Raises HTTPException and InvalidInput."""
    body = await request.body()
    try:
        value = strict_json.read(body, max_bytes=len(body))
    except InvalidInput as error:
        raise HTTPException(400, "JSON parse error") from error
    if not isinstance(value, dict):
        told = "Invalid data. Expected an object."
        raise InvalidInput(told, errors={"non_field_errors": [told]})
    return value


def require_own_org(caller: Principal, *given: Mapping[str, Any]) -> None:
    """`org` and `org_id` may be left out, empty, or the caller's. Raises PermissionDenied."""
    for fields in given:
        for name in ("org", "org_id"):
            if fields.get(name) not in (None, "", caller.org):
                raise PermissionDenied(_DENIED)


def _detail(failure: Failure) -> Any:
    cause = failure.cause
    match cause:
        case errors.Unauthenticated():
            is_missing = cause.facts.get("reason") == "missing"
            return (
                "Authentication credentials were not provided." if is_missing else "Invalid token."
            )
        case errors.PermissionDenied():
            return _DENIED
        case errors.AlreadyExists():
            return {"non_field_errors": [failure.detail]}
        case errors.InvalidInput() if "errors" in cause.facts:
            return cause.facts["errors"]
    if failure.status < 500:
        return failure.detail
    return _UNAVAILABLE if failure.status in (503, 504) else _UNEXPECTED + _reason(failure)


def _reason(failure: Failure) -> str:
    """Free of internals: the log has them under the incident."""
    if failure.instance:
        return f"quote incident {failure.instance.rpartition(':')[2]} when you report it."
    return "the installation is not set up for this."
