"""What every request passes: it gets an id, HEAD works wherever GET does, early answers arrive."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Final

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.records.idempotency import new_id
from pipeline.telemetry import caused_by, coming_from, log_fields

HEAD_OF_GET = "modelyard.head"
"""Set in the scope of a HEAD request that is answered by the GET route without its body."""

TUNNEL = "modelyard.tunnel"
"""Extension in the scope of a request that asks for another protocol: an answer of 101 opens a
tunnel: pieces of its body are sent as they are, and what comes is received as an endless body."""


class Methods:
    """The table of all paths, made at the first question, when all routes are there."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    def of(self, path: str) -> frozenset[str]:
        is_exact = path in self.exact
        return frozenset().union(
            *(
                known
                for route, pattern, known in self._table
                if (route == path if is_exact else pattern.match(path))
            )
        )

    @cached_property
    def exact(self) -> frozenset[str]:
        """Paths that a route spells out: they take the place of those with a parameter."""
        return frozenset(path for path, _, _ in self._table if "{" not in path)

    @cached_property
    def _table(self) -> list[tuple[str, re.Pattern[str], frozenset[str]]]:
        return [
            (route.path, compile_path(route.path)[0], frozenset(route.methods))
            for route in iter_route_contexts(self._app.routes)
            if route.path is not None and route.methods
        ]


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


class OtherOrigins:
    """Lets pages of other origins call, which send tokens themselves: no cookies are allowed.

    Those of every origin below the `doors` that are open to all, where also whoever names no origin
    is told so; elsewhere those of `origins` (`*` is each). Scripts may read the headers `exposed`.
    """

    def __init__(
        self, app: ASGIApp, doors: Sequence[str], origins: Collection[str], exposed: Sequence[str]
    ) -> None:
        self._app = app
        self._doors = tuple(f"{prefix}/" for prefix in doors)
        self._origins = frozenset(origins)
        self._told = {
            "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
            "Access-Control-Expose-Headers": ", ".join(exposed),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = Headers(scope=scope)
        is_open = f"{scope['path']}/".startswith(self._doors)
        origin = asked.get("origin", "*" if is_open else None)
        is_allowed = is_open or not self._origins.isdisjoint({"*", origin})
        if origin is None or not is_allowed:
            await self._app(scope, receive, send)
            return
        told = self._allowing(origin, asked)
        if scope["method"] == "OPTIONS" and (is_open or "access-control-request-method" in asked):
            answer = Response("{}", 200, {**told, "Vary": "Origin"}, "application/json")
            await answer(scope, receive, send)
            return

        async def allowed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(told)
                headers.add_vary_header("Origin")
            await send(message)

        await self._app(scope, receive, allowed)

    def _allowing(self, origin: str, asked: Headers) -> dict[str, str]:
        headers = "Authorization, Content-Type, Last-Event-ID"
        if wanted := asked.get("access-control-request-headers"):
            headers = f"{headers}, {wanted}"
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Headers": headers,
            **self._told,
        }


class SpeaksForTus:
    """Takes what clients of tus send below `prefix`: another method in a POST, a slash at the end.

    Some networks let no PATCH or DELETE through (tus 1.0, X-HTTP-Method-Override).
    """

    OVERRIDES = frozenset({"HEAD", "PATCH", "DELETE"})

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and f"{scope['path']}/".startswith(f"{self._prefix}/"):
            scope = {**scope, "path": scope["path"].rstrip("/")}
            asked = dict(scope["headers"]).get(b"x-http-method-override", b"").decode("latin-1")
            if scope["method"] == "POST" and asked.upper() in self.OVERRIDES:
                scope["method"] = asked.upper()
        await self._app(scope, receive, send)


HEADER: Final = "x-request-id"
_GIVEN: Final = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")


class RequestIds:
    """The caller's `X-Request-Id` when it is 1 to 128 plain characters, else one of our own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        id = _given(scope) or new_id()

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = id
            await send(message)

        address = scope["client"][0] if scope.get("client") else None
        with caused_by(id), coming_from(address), log_fields(request_id=id):
            await self._app(scope, receive, named)


def _given(scope: Scope) -> str | None:
    given = [value for name, value in scope["headers"] if name == HEADER.encode()]
    return given[0].decode() if len(given) == 1 and _GIVEN.fullmatch(given[0]) else None


LINGER_S = 5.0
LINGER_BYTES = 256 * 1024 * 1024


class DrainRequest:
    """Reads on for a while after an early answer, before the connection is closed.

    To close a connection on a sender who is still sending makes his system throw away the answer
    together with the connection: he would hear of a broken pipe instead of the reason.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _has_body(scope):
            await self._app(scope, receive, send)
            return
        is_read = False

        async def watched() -> Message:
            nonlocal is_read
            message = await receive()
            is_read = not message.get("more_body", False)
            return message

        async def lingering(message: Message) -> None:
            if is_read or message.get("more_body"):
                await send(message)
                return
            if message["type"] == "http.response.start":
                # What is left of the body is not read to its end, however long it is.
                headers = message.get("headers", [])
                kept = [(name, value) for name, value in headers if name != b"connection"]
                await send({**message, "headers": [*kept, (b"connection", b"close")]})
                return
            await send({**message, "more_body": True})
            await _read_on(receive)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        await self._app(scope, watched, lingering)


def _has_body(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"


async def _read_on(receive: Receive) -> None:
    seen = 0
    try:
        async with asyncio.timeout(LINGER_S):
            while seen < LINGER_BYTES:
                message = await receive()
                if not message.get("more_body", False):
                    return
                seen += len(message.get("body", b""))
    except TimeoutError:
        return
