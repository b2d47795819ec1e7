"""Lists in pages: `limit` and `cursor` in, `items`, `next` and a Link header out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Annotated, Generic, Protocol, TypeVar

from fastapi import Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from schemas.access import Principal

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Limit = Annotated[int, Query(ge=1, le=200, description="Most items of one page.")]
Cursor = Annotated[
    str | None,
    Query(
        max_length=512,
        pattern="^[A-Za-z0-9_-]+$",
        description="`next` of the page before. Its content means nothing.",
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
    page: Paged[T],
    show: Callable[[T, Principal], bytes],
    *,
    request: Request,
    caller: Principal,
) -> Response:
    items = b",".join(show(item, caller) for item in page.items)
    body = b'{"items":[%b],"next":%b}' % (items, json.dumps(page.next).encode())
    headers = {} if page.next is None else {"Link": _link(request, page.next)}
    return Response(body, headers=headers, media_type="application/json")


def _link(request: Request, cursor: str) -> str:
    # Relative, so that it is right behind whatever proxy.
    url = request.url.include_query_params(cursor=cursor)
    return f'<{url.path}?{url.query}>; rel="next"'
