"""Answers about one record, and what the documentation says about failures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from api.conditional import etag, is_unchanged
from api.idempotency import REPLAYED
from api.problems import MEDIA_TYPE
from schemas.base import Record
from schemas.problem import Problem

JSON = "application/json"


def created(record: Record, body: bytes, *, path: str, settled: bool, replayed: bool) -> Response:
    """201 with the outcome, or 202 while there is none yet."""
    headers = {"Location": path, "ETag": etag(record)}
    if replayed:
        headers[REPLAYED] = "true"
    return Response(body, 201 if settled else 202, headers, JSON)


def found(record: Record, body: bytes, if_none_match: str | None) -> Response:
    # The body depends on what the caller may see.
    headers = {"ETag": etag(record), "Cache-Control": "private, no-cache", "Vary": "Authorization"}
    if is_unchanged(record, if_none_match):
        return Response(None, 304, headers)
    return Response(body, 200, headers, JSON)


def changed(record: Record, body: bytes, *, settled: bool = True) -> Response:
    """200 when it is done, 202 when it is under way."""
    return Response(body, 200 if settled else 202, {"ETag": etag(record)}, JSON)


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
