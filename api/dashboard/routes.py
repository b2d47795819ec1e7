"""`/` and `/dashboard/…`: the web page, as its files lie in this package."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import NamedTuple

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from api.http.answers import IfNoneMatch, is_current
from api.http.auth import OpenRoute

router = APIRouter(route_class=OpenRoute, include_in_schema=False)

PAGE = "index.html"
MEDIA_TYPES: Mapping[str, str] = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}
# Nothing from elsewhere, nothing inline, and no text that can become markup.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Kept, but asked about at every use: a new release is seen at the next reload.
    "Cache-Control": "no-cache",
}


class _File(NamedTuple):
    content: bytes
    media_type: str
    tag: str


@router.get("/")
async def show_dashboard(if_none_match: IfNoneMatch = None) -> Response:
    """The page itself. It holds no data: those it asks for with the reader's token."""
    return _answer(_files()[PAGE], if_none_match)


@router.get("/dashboard")
async def lead_to_dashboard() -> Response:
    """For those who type what they read elsewhere."""
    return RedirectResponse("./", 307)


@router.get("/dashboard/{name}")
async def show_dashboard_file(name: str, if_none_match: IfNoneMatch = None) -> Response:
    """A file of the page, by its exact name: nothing else of the disk can be named."""
    file = _files().get(name)
    if file is None:
        raise HTTPException(404)
    return _answer(file, if_none_match)


def _answer(file: _File, if_none_match: str | None) -> Response:
    headers = {**_HEADERS, "ETag": f'"{file.tag}"'}
    if is_current(file.tag, if_none_match):
        return Response(None, 304, headers)
    return Response(file.content, 200, headers, file.media_type)


@cache
def _files() -> Mapping[str, _File]:
    """Read once: they change only with a release."""
    folder = resources.files("api.dashboard").joinpath("static")
    return {
        file.name: _read(file.read_bytes(), MEDIA_TYPES[ending])
        for file in folder.iterdir()
        if (ending := file.name.rpartition(".")[2]) in MEDIA_TYPES
    }


def _read(content: bytes, media_type: str) -> _File:
    return _File(content, media_type, hashlib.sha256(content).hexdigest()[:32])
