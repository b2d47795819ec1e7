"""How requests of the Docker image catalogue are read, and how its failures look: `detail`, or
messages by field."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from fastapi import Request
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api.http import bodies
from api.http.answers import JSON
from api.http.auth import GuardedRoute, Handler
from api.http.problem_details import Failure
from pipeline import errors
from pipeline.catalog import fields
from pipeline.errors import NotFound, StaleRevision, Unauthenticated

log = logging.getLogger(__name__)

PREFIX: Final = "/v1"
FORMS: Final = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})
LISTS: Final = frozenset({"tasks", "names"})
"""Fields of a form of which every value counts; of others the last one does."""
FORM_FIELDS_MAX: Final = 1000
PK_MAX: Final = 2**63 - 1
OFFSET_MAX: Final = 2**53
LIMIT_MAX: Final = 2**31 - 1
_DIGITS = re.compile(r"[0-9]+", re.ASCII)
_NODE = re.compile(r"[+-]?[0-9]{1,100}", re.ASCII)
_CHARSETS: Final = {"utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin-1", "utf-16"}


class Detail(BaseModel):
    detail: str


class Refusal(BaseModel):
    """Messages by field, or `non_field_errors`, or `detail`."""

    detail: str | None = None
    non_field_errors: list[str] | None = None


class CatalogRoute(GuardedRoute):
    """A route that knows the scheme `Bearer` only: who sends another one is anonymous."""

    def get_route_handler(self) -> Handler:
        handler = super().get_route_handler()

        async def bearer(request: Request) -> Response:
            scheme = request.headers.get("authorization", "").strip().partition(" ")[0]
            if scheme.lower() not in ("", "bearer"):
                raise Unauthenticated("Send a token: Authorization: Bearer …", reason="missing")
            return await handler(request)

        return bearer


def json_answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(json.dumps(body), status, headers, JSON)


def single(
    body: Mapping[str, Any],
    edition: int,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """One record, with its ETag."""
    # What is shown depends on the caller.
    told = {"ETag": f'"{edition}"', "Vary": "Authorization", **(headers or {})}
    return json_answer(body, status, told)


# --- requests


def key_of(text: str) -> int:
    """A primary key out of a path. Raises NotFound."""
    digits = text.lstrip("0") or "0"
    if not _DIGITS.fullmatch(text) or len(digits) > 19 or int(digits) > PK_MAX:
        raise NotFound("Not found.")
    return int(digits)


def require_match(request: Request, edition: int) -> int | None:
    """The edition that a change needs (`If-Match`), or None for any. Raises StaleRevision."""
    header = request.headers.get("if-match")
    if header is None or header.strip() == "*":
        return None
    if f'"{edition}"' not in (part.strip() for part in header.split(",")):
        raise StaleRevision("It has changed: read it again and use its new ETag.")
    return edition


def note_node(request: Request) -> None:
    """The header `Node-Id` grants nothing. HTTPException 400 unless it is an integer."""
    given = request.headers.get("node-id")
    if given is None:
        return
    if not _NODE.fullmatch(given.strip()):
        raise HTTPException(400, "Node-Id is an integer.")
    log.info("%s %s by node %s", request.method, request.url.path, given.strip())


async def read_value(request: Request) -> Any:
    """The body: None for an empty one, else a JSON value or the fields of a form.

    HTTPException 415 for another type and 400 for what cannot be read.
    """
    body = await request.body()
    kind = bodies.media_type(request.headers)
    if body and kind not in {JSON, *FORMS}:
        raise HTTPException(415, f"Send the body as {JSON} or as a form.")
    charset = _charset(request)
    note_node(request)
    if not body:
        return None
    return await _form(request) if kind in FORMS else _json(body, charset)


async def read_object(request: Request) -> dict[str, Any]:
    """As `read_value`, where there must be an object; an empty body is an empty one."""
    body = await request.body()
    value = await read_value(request)
    if not body:
        return {}
    if not isinstance(value, dict):
        raise fields.refused_whole("Invalid data. Expected an object.")
    return value


def paging(request: Request) -> tuple[int, int]:
    """Limit and offset. HTTPException 400."""
    limit = _whole(request, "limit")
    offset = _whole(request, "offset") or 0
    return LIMIT_MAX if limit is None else min(limit, LIMIT_MAX), min(offset, OFFSET_MAX)


def _whole(request: Request, name: str) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    if not _DIGITS.fullmatch(text):
        raise HTTPException(400, f"{name} is an integer of at least 0.")
    return int(text.lstrip("0")[:18] or "0")


def _charset(request: Request) -> str:
    """HTTPException 415 for one that we do not know."""
    found = re.search(r'charset="?([^";\s]+)', request.headers.get("content-type", ""), re.I)
    charset = found[1].lower() if found else "utf-8"
    if charset not in _CHARSETS:
        raise HTTPException(415, "Send the body in UTF-8.")
    return charset


def _json(body: bytes, charset: str) -> Any:
    try:
        return json.loads(body.decode(charset), parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise HTTPException(400, "JSON parse error: the body is not JSON.") from None


def _no_number(text: str) -> None:
    raise ValueError(text)


async def _form(request: Request) -> dict[str, Any]:
    async with request.form(max_fields=FORM_FIELDS_MAX) as form:
        found: dict[str, list[Any]] = {}
        for name, value in form.multi_items():
            found.setdefault(name, []).append(value)
    return {name: values if name in LISTS else values[-1] for name, values in found.items()}


# --- failures

_UNAVAILABLE: Final = "The service is unavailable at the moment: try again."
_BROKEN: Final = "Something went wrong on our side."
_CODES: Final = frozenset({"user_inactive", "user_not_found"})
_ANONYMOUS: Final = {
    "missing": "Authentication credentials were not provided.",
    "login": "No active account found with the given credentials.",
}
CHALLENGE: Final = 'Bearer realm="api"'


def render(failure: Failure, path: str) -> Response:
    """The renderer of the door. No text tells anything of the inside."""
    status = 400 if failure.status == 422 else failure.status
    headers = dict(failure.headers)
    if status == 401:
        headers["WWW-Authenticate"] = CHALLENGE
    return json_answer(_body(failure, path), status, headers)


def _body(failure: Failure, path: str) -> dict[str, Any]:
    cause = failure.cause
    match cause:
        case errors.Unauthenticated():
            return _unauthenticated(cause, path)
        case errors.YardError() if "fields" in cause.facts:
            return dict(cause.facts["fields"])
    if failure.status < 500:
        return {"detail": failure.detail}
    if failure.instance:
        return {"detail": f"{_BROKEN} Quote incident {failure.instance} when you report it."}
    return {"detail": _UNAVAILABLE if failure.status in (503, 504) else _BROKEN}


def _unauthenticated(error: Unauthenticated, path: str) -> dict[str, Any]:
    reason = error.facts.get("reason")
    if reason in _ANONYMOUS:
        return {"detail": _ANONYMOUS[reason]}
    kind = "refresh" if path.rstrip("/").endswith("/auth/refresh") else "access"
    message = {"token_class": f"{kind.title()}Token", "token_type": kind, "message": error.message}
    return {
        "detail": error.message,
        "code": reason if reason in _CODES else "token_not_valid",
        "messages": [message],
    }


def failures(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documented failures of a route."""
    return {
        status: {"model": Refusal if status == 400 else Detail, "description": MEANINGS[status]}
        for status in sorted({400, 401, 403, *statuses, 503})
    }


MEANINGS: Final[Mapping[int, str]] = {
    400: "The request is malformed, or fields are wrong: all of them are told.",
    401: "No token, or one that is invalid: then `code` says why.",
    403: "The token does not allow this.",
    404: "There is no such record.",
    409: "Something uses it.",
    412: "If-Match names another edition.",
    413: "The body is too large.",
    415: "The body is neither JSON nor a form.",
    429: "Too many failed attempts: wait for as long as Retry-After says.",
    503: "Store or broker do not answer.",
}

Add = Callable[..., Any]


def optional_slash(add: Add, path: str, *, method: str, **options: Any) -> Callable[[Any], Any]:
    """Registers an endpoint with and without a `/` at the end of its path."""

    def register(endpoint: Any) -> Any:
        add(path, endpoint, methods=[method], **options)
        add(f"{path}/", endpoint, methods=[method], include_in_schema=False)
        return endpoint

    return register
