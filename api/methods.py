"""Which methods a path knows: for the Allow header, and so that HEAD works wherever GET does."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

HEAD_OF_GET = "modelyard.head"
"""Set in the scope of a HEAD request that is answered by the GET route without its body."""


class Methods:
    """The table of all paths, made at the first question, when all routes are there."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._table: list[tuple[re.Pattern[str], frozenset[str]]] | None = None

    def of(self, path: str) -> frozenset[str]:
        if self._table is None:
            self._table = list(_table(self._app))
        return frozenset().union(*(known for pattern, known in self._table if pattern.match(path)))


class HeadAsGet:
    """Answers HEAD with the GET route of the path when no route of its own knows HEAD."""

    def __init__(self, app: ASGIApp, methods: Methods) -> None:
        self._app = app
        self._methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            known = self._methods.of(scope["path"])
            if "GET" in known and "HEAD" not in known:
                # A copy: the server reads its own scope to leave the body away.
                scope = {**scope, "method": "GET", HEAD_OF_GET: True}
        await self._app(scope, receive, send)


def _table(app: FastAPI) -> Iterable[tuple[re.Pattern[str], frozenset[str]]]:
    for route in iter_route_contexts(app.routes):
        if route.path is not None and route.methods:
            yield compile_path(route.path)[0], frozenset(route.methods)
