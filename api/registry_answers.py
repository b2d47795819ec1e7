"""The envelope in which the registry directory speaks: `success` with `data`, or with `error`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any, Final

from starlette.responses import Response

from api.answers import JSON
from api.problems import Failure
from pipeline import errors

PREFIXES = ("/container_registry", "/container_registries", "/check_container_health")

BREATH_BYTES: Final = 256 * 1024
"""Written without a pause for others."""

_REASONED = (errors.Overloaded, errors.Timeout)
_UNAVAILABLE = "The service is unavailable at the moment: try again."
_BROKEN = "Something went wrong on our side: try again, and report it when it lasts."


def success(data: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(_json({"success": True, "data": data}), status, headers, JSON)


async def success_page(documents: Iterable[Any], headers: dict[str, str]) -> Response:
    """`success` of a list that may be long. Others have their turns while it is written."""
    parts: list[bytes] = []
    since_pause = 0
    for document in documents:
        parts.append(_json(document))
        since_pause += len(parts[-1])
        if since_pause > BREATH_BYTES:
            since_pause = 0
            await asyncio.sleep(0)
    return Response(b'{"success":true,"data":[%b]}' % b",".join(parts), 200, headers, JSON)


def render(failure: Failure, path: str) -> Response:
    """The renderer of the door. No text tells anything of the inside."""
    status = 400 if failure.status == 422 else failure.status
    body = {"success": False, "error": _text(failure)}
    return Response(json.dumps(body), status, dict(failure.headers), JSON)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _text(failure: Failure) -> str:
    cause = failure.cause
    if isinstance(cause, errors.Unauthenticated):
        is_missing = cause.facts.get("reason") == "missing"
        return "Authentication credentials were not provided." if is_missing else "Invalid token."
    if failure.status < 500 or failure.instance or isinstance(cause, _REASONED):
        return failure.detail
    return _UNAVAILABLE if failure.status in (503, 504) else _BROKEN
