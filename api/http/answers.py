"""Answers about one record or a page of them, and what of the request they depend on; what of a
model's answer is meant for its caller.

A record's revision is its entity tag; a repeated `Idempotency-Key` finds the first one's record.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Annotated, Any, Generic, Protocol, TypeVar

from fastapi import Header, Query, Request
from pydantic import AwareDatetime, BaseModel, BeforeValidator
from starlette.responses import Response

from pipeline.errors import NotFound, StaleRevision
from pipeline.events.hub import EventHub
from pipeline.records.queries import CURSOR
from schemas.access import Principal
from schemas.base import Record, StatefulRecord
from schemas.registries.secret import SecretSummary

JSON = "application/json"
REPLAYED = "Idempotency-Replayed"
"""`true` in the answer to a repeat: the record is the one that the first request made."""

_TAG = re.compile(r'\s*(W/)?"([^"]*)"\s*')
_TAGS = r'^(\*|(W/)?"[!#-~]*"([ \t]*,[ \t]*(W/)?"[!#-~]*")*)$'
_REVISION = re.compile(r"[0-9]{1,18}")

IfMatch = Annotated[
    str | None,
    Header(
        pattern=_TAGS,
        examples=['"3"'],
        description="Do it only if the record is still the one with this ETag; else 412.",
    ),
]
IfNoneMatch = Annotated[
    str | None, Header(description="Answer 304 if the record is still the one with this ETag.")
]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        max_length=255,
        pattern=r"^[!-~]([ -~]*[!-~])?$",
        description="Any printable ASCII of your own, for instance a UUID. A repeat with the same"
        " key and body gets the record of the first request, with another body 422.",
    ),
]


def created(record: Record, body: bytes, prefix: str, *, settled: bool) -> Response:
    """201 with the outcome, or 202 while there is none yet."""
    headers = location(record, prefix) | {"ETag": etag(record)}
    return Response(body, 201 if settled else 202, headers, JSON)


def location(record: Record | SecretSummary, prefix: str) -> dict[str, str]:
    """Headers that say where a new record is, and whether an earlier request made it."""
    replayed = {REPLAYED: "true"} if record.replayed else {}
    return {"Location": f"{prefix}/{record.uuid}"} | replayed


def found(record: Record, body: bytes, if_none_match: str | None) -> Response:
    # The body depends on what the caller may see.
    headers = {"ETag": etag(record), "Cache-Control": "private, no-cache", "Vary": "Authorization"}
    if is_current(str(record.revision), if_none_match):
        return Response(None, 304, headers)
    return Response(body, 200, headers, JSON)


def changed(record: Record, body: bytes, *, settled: bool = True) -> Response:
    """200 when it is done, 202 when it is under way."""
    return Response(body, 200 if settled else 202, {"ETag": etag(record)}, JSON)


def etag(record: Record) -> str:
    return f'"{record.revision}"'


def is_current(tag: str, if_none_match: str | None) -> bool:
    """Whether the caller has what goes by `tag`. Weak comparison, as If-None-Match asks for."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or any(value == tag for _, value in _tags(if_none_match))


async def expected_revision(
    if_match: str | None, load: Callable[[], Awaitable[Record]]
) -> int | None:
    """The revision that the record must have, or None when any will do.

    `load` is asked only when several tags are given. Raises StaleRevision when none can match.
    """
    if if_match is None or if_match.strip() == "*":
        return None
    wanted = {int(tag) for weak, tag in _tags(if_match) if not weak and _REVISION.fullmatch(tag)}
    if len(wanted) > 1:
        wanted &= {(await load()).revision}
    if not wanted:
        raise StaleRevision("The record has changed: read it again and use its new ETag.")
    return wanted.pop()


def _tags(header: str) -> list[tuple[bool, str]]:
    """Each tag, and whether it is a weak one. What is no tag matches nothing."""
    matches = [_TAG.fullmatch(part) for part in header.split(",")]
    return [(match[1] is not None, match[2]) for match in matches if match]


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Limit = Annotated[int, Query(ge=1, le=200, description="Most items of one page.")]


def cursor(pattern: str) -> Any:
    """The parameter of pages whose cursors look like `pattern`."""
    told = "`next` of the page before. Its content means nothing."
    return Query(max_length=512, pattern=pattern, description=told)


Cursor = Annotated[str | None, cursor(CURSOR)]

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _date_time(value: object) -> object:
    """Numbers, which pydantic takes for seconds since 1970, are none."""
    if isinstance(value, str) and not _RFC3339.fullmatch(value):
        raise ValueError("write it like 2026-05-01T12:00:00Z")
    return value


Since = Annotated[AwareDatetime, BeforeValidator(_date_time)]
"""A time in a query."""

Called = Annotated[
    str,
    Query(
        min_length=1,
        max_length=640,
        description="How somebody calls it: a uuid, the first 8 or more letters of one, a name.",
    ),
]


class PageView(BaseModel, Generic[T]):
    """One page, newest first."""

    items: list[T]
    next: str | None
    """Cursor of the next page; null on the last one."""


class Paged(Protocol[T_co]):
    @property
    def items(self) -> Sequence[T_co]: ...
    @property
    def next(self) -> str | None: ...


def page_response(
    page: Paged[T], show: Callable[[T, Principal], bytes], *, request: Request, caller: Principal
) -> Response:
    items = b",".join(show(item, caller) for item in page.items)
    body = b'{"items":[%b],"next":%b}' % (items, json.dumps(page.next).encode())
    headers = {} if page.next is None else {"Link": _link(request, page.next)}
    return Response(body, headers=headers, media_type="application/json")


def _link(request: Request, cursor: str) -> str:
    # Relative, so that it is right behind whatever proxy.
    url = request.url.include_query_params(cursor=cursor)
    return f'<{url.path}?{url.query}>; rel="next"'


R = TypeVar("R", bound=StatefulRecord)

Wait = Annotated[
    float,
    Query(
        ge=0,
        allow_inf_nan=False,
        description="Seconds to wait for the outcome, cut to the server's maximum. When they are"
        " over the answer is 202 with the record as it is; the work goes on.",
    ),
]


async def waited(
    hub: EventHub,
    caller: Principal,
    kind: type[R],
    uuid: str,
    *,
    ask: Callable[[], Awaitable[R]],
    load: Callable[[], Awaitable[R]],
    is_settled: Callable[[R], bool],
    wait_s: float,
) -> R:
    """The record that `ask` is about, once it is settled, or as it is after `wait_s`."""
    if not wait_s:
        return await ask()

    async def look(last: R) -> R:
        try:
            return await load()
        except NotFound:
            # A deleted record is not found any more: then it is what was seen last, but deleted.
            return last.model_copy(update={"status": type(last.status)("DELETED")})

    with hub.watch(caller.org, kind.resource, uuid) as watch:
        asked = await ask()
        record = await watch.until(is_settled, asked, look, wait_s=wait_s)
    return record.model_copy(update={"replayed": asked.replayed})


HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer"
    b" transfer-encoding upgrade".split()
)
"""Of one connection (RFC 9110, 7.6.1), as is whatever `Connection` names."""
OUR_OWN = frozenset(
    b"date location refresh content-security-policy content-security-policy-report-only"
    b" strict-transport-security clear-site-data service-worker-allowed alt-svc nel report-to"
    b" reporting-endpoints".split()
)
"""What speaks for the server, its address or its origin is not a model's to say."""
COOKIES = frozenset({b"set-cookie", b"set-cookie2"})
NONE: AbstractSet[bytes] = frozenset()


def end_to_end(
    headers: Iterable[tuple[bytes, bytes]], dropped: AbstractSet[bytes], *, cookies: bool
) -> list[tuple[bytes, bytes]]:
    """The fields of a model's answer that are meant for its caller, without those `dropped`."""
    hidden = OUR_OWN | dropped | (NONE if cookies else COOKIES)
    return [
        (name, value)
        for name, value in without_hops(headers, hidden)
        if not name.startswith(b"access-control-")
    ]


def without_hops(
    headers: Iterable[tuple[bytes, bytes]], dropped: AbstractSet[bytes]
) -> list[tuple[bytes, bytes]]:
    """The fields, in lower case, without those of one connection and those `dropped`."""
    given = [(name.lower(), value) for name, value in headers]
    named = {
        token.strip().lower()
        for name, value in given
        if name == b"connection"
        for token in value.split(b",")
    }
    hidden = HOP_BY_HOP | named | dropped
    return [(name, value) for name, value in given if name not in hidden]
