"""How requests of the imported-containers door are read, and how its failures look: an object with
one member, `detail`, unless a failure brings a body of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fastapi import Request
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api.http.answers import JSON
from api.http.problem_details import Failure
from api.imported_containers.fields import canonical
from pipeline import errors, strict_json
from pipeline.bootstrap.control_plane import Services
from pipeline.errors import InvalidInput, NotFound, PermissionDenied
from pipeline.secrets.types import Fault
from schemas.access import Principal


class Detail(BaseModel):
    detail: Any


def failures(*statuses: int, model: type[BaseModel] = Detail) -> dict[int | str, dict[str, Any]]:
    """The documented failures of a route; of 400 and 404 in the shape of `model`."""
    shapes = dict.fromkeys((401, 403, *statuses, 503), Detail)
    return {
        status: {"model": model if status in (400, 404) else shape}
        for status, shape in shapes.items()
    }


def json_answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(json.dumps(body), status, headers, JSON)


def time_text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


async def read_object(request: Request) -> dict[str, Any]:
    """The body, whatever its content type says. Raises HTTPException and InvalidInput."""
    body = await request.body()
    try:
        value = strict_json.read(body, max_bytes=len(body))
    except InvalidInput as error:
        raise HTTPException(400, "JSON parse error") from error
    if not isinstance(value, dict):
        told = "Invalid data. Expected an object."
        raise refused({"detail": {"non_field_errors": [told]}})
    return value


async def own_org(services: Services, caller: Principal, *given: Mapping[str, Any]) -> str:
    """The UUID of the caller's organisation. `org` and `org_id` may be left out, empty, or name it
    by that or by its slug. Raises PermissionDenied."""
    uuid = await services.organisations.uuid_of(caller.org)
    for fields in given:
        for name in ("org", "org_id"):
            value = fields.get(name)
            if value not in (None, "", caller.org) and canonical(value) != uuid:
                raise PermissionDenied(_DENIED)
    return uuid


def refused(body: Mapping[str, Any]) -> InvalidInput:
    """The error that is answered 400 with exactly this body."""
    return InvalidInput(json.dumps(body), body=body)


def missing(body: Mapping[str, Any]) -> NotFound:
    """The error that is answered 404 with exactly this body."""
    return NotFound(json.dumps(body), body=body)


_DENIED = "You do not have permission to perform this action."
_UNAVAILABLE = "The service is unavailable at the moment: try again."
_UNEXPECTED = "An unexpected error occurred: "
_FIELD_TEXTS = {
    "lacking": "This field is required.",
    "null": "This field may not be null.",
    "blank": "This field may not be blank.",
    "no_string": "Not a valid string.",
    "no_object": "Expected an object.",
    "long": "Ensure this field has no more than 255 characters.",
    "controls": "Control characters are not allowed.",
    "unknown": '"{value}" is not a valid choice.',
}
"""What clients read about a field, by the code of a fault."""


def render(failure: Failure, path: str) -> Response:
    """The renderer of the door."""
    status = 400 if failure.status in (409, 422) else failure.status
    own = failure.cause.facts.get("body") if isinstance(failure.cause, errors.YardError) else None
    body = {"detail": _detail(failure)} if own is None else own
    return json_answer(body, status, dict(failure.headers))


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
        case errors.InvalidInput() if "faults" in cause.facts:
            return {name: list(map(_text, found)) for name, found in cause.facts["faults"].items()}
    if failure.status < 500:
        return failure.detail
    return _UNAVAILABLE if failure.status in (503, 504) else _UNEXPECTED + _reason(failure)


def _text(fault: Fault) -> str:
    known = _FIELD_TEXTS.get(fault.code)
    return known.format(value=fault.value) if known else fault.message


def _reason(failure: Failure) -> str:
    """Free of internals: the log has them under the incident."""
    if failure.instance:
        return f"quote incident {failure.instance.rpartition(':')[2]} when you report it."
    return "the installation is not set up for this."
