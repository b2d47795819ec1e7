"""The documents of this door: how they are searched, in which order they come, what they show, and
the envelope they come in: `success` with `data`, or with `error`."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from starlette.responses import Response

from api.http.answers import JSON
from api.http.problem_details import Failure
from pipeline import errors
from pipeline.errors import InvalidInput
from pipeline.mongo_language.filters import FilterFields, sort_path
from pipeline.mongo_language.tree import segments
from pipeline.registries import entries, wire
from pipeline.registries.entries import FIELDS, HEALTH
from pipeline.registries.queries import LIMIT, LIMIT_MAX, Paging
from schemas.registries.registry import Registry

OFFSET_MAX: Final = 2**53
SORTS_MAX: Final = 3

_STORED: Final = {wire.PREFIX + name: name for name in (*FIELDS, HEALTH)}
SEARCHED: Final = FilterFields(
    stored=_STORED | {"created_at": "created_at", "updated_at": "changed_at"},
    internal=frozenset({"_id", *Registry.model_fields})
    - set(_STORED.values())
    - {"created_at", "updated_at"},
    times=frozenset({"created_at", "updated_at", f"{wire.PREFIX}{HEALTH}.checked_at"}),
)
"""What callers may name in filters and sort by, and where it is stored."""

_WHOLE = re.compile(r"[0-9]+")


def shown(stored: Mapping[str, Any]) -> dict[str, Any]:
    """What callers see of a stored entry, in JSON types. Nothing else of it is read.

    Fields that are newer than the entry read as their defaults.
    """
    whole = entries.defaults() | dict(stored)
    document = wire.named({name: whole[name] for name in FIELDS})
    health = stored.get(HEALTH)
    document[wire.PREFIX + HEALTH] = None if health is None else entries.shown_health(health)
    document["created_at"] = entries.shown_time(stored["created_at"])
    document["updated_at"] = entries.shown_time(stored["changed_at"])
    return document


def paging(query: Mapping[str, str]) -> Paging:
    """From the query string. Raises InvalidInput."""
    return Paging(
        limit=min(_whole(query, "limit", LIMIT), LIMIT_MAX),
        offset=min(_whole(query, "offset", 0), OFFSET_MAX),
        sort=_sort(query.get("sort", "created_at")),
    )


def _whole(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not _WHOLE.fullmatch(text):
        raise InvalidInput(f"{name} must be a whole number of at least 0.", field=name)
    # Longer ones are clamped anyway, and Python refuses to read them.
    return int(text.lstrip("0")[:20] or "0")


def _sort(text: str) -> tuple[tuple[str, int], ...]:
    wanted = text.split(",")
    if len(wanted) > SORTS_MAX:
        raise InvalidInput(f"sort takes at most {SORTS_MAX} paths.", field="sort")
    paths = dict(_sort_key(each) for each in wanted)
    if len(paths) < len(wanted):
        raise InvalidInput("sort names a path twice.", field="sort")
    paths.setdefault(entries.ID, 1)
    return tuple(paths.items())


def _sort_key(text: str) -> tuple[str, int]:
    path = text.removeprefix("-")
    segments(path)
    return sort_path(path, SEARCHED), -1 if text.startswith("-") else 1


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
