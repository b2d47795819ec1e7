"""Calls of deployments that have no replica: the gateway sends them here. Not for anybody else.

A call waits for a replica and is then passed on as it came, both ways piece by piece.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Final

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.routing import Mount
from starlette.types import Message, Receive, Scope, Send

from api.http.answers import without_hops
from api.http.auth import admit
from api.http.middleware import TUNNEL
from api.http.problem_details import ErrorRenderers
from pipeline import concurrency
from pipeline.adapters.http.streaming import SWITCHED, StreamedAnswer
from pipeline.bootstrap.control_plane import Services
from pipeline.deployments.activation import Activation, Call
from pipeline.errors import MalformedRequest, Unreachable
from pipeline.gateway.routing import ACTIVATOR, PROOF, proof
from schemas.access import Permission
from schemas.deployment import Deployment

log = logging.getLogger(__name__)

AHEAD_BYTES: Final = 256 * 1024
"""Of a body, read while the call waits: only who reads notices that a caller has left."""
_FOR_US: Final = frozenset({b"authorization", b"expect", PROOF.encode()})
_OF_THE_SERVER: Final = frozenset({b"date"})


def mount(app: FastAPI, renderers: ErrorRenderers) -> None:
    app.router.routes.append(Mount(ACTIVATOR, app=Activator()))


class Activator:
    """`/activator/<slug>/<path>`, whatever the method."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        services: Services = request.app.state.services
        key = proof(services.settings.signing_key.get_secret_value())
        if not hmac.compare_digest(request.headers.get(PROOF, "").encode(), key.encode()):
            raise HTTPException(404)
        caller = await admit(request, Permission.CONTAINER_RUN)
        slug, target = _taken_apart(scope)
        deployment = await services.deployments.service.called(caller, slug)
        upload = _ReadAhead(receive, is_tunnel=TUNNEL in scope.get("extensions", {}))
        reading = asyncio.create_task(upload.until_gone(), name=f"caller of {slug}")
        serving = asyncio.create_task(
            _serve(request, deployment, target, upload, send), name=f"call of {slug}"
        )
        tasks = {reading, serving}
        if upload.is_tunnel:
            # It would hold up the end of the server for as long as that may take.
            tasks.add(asyncio.create_task(request.app.state.draining.wait(), name="end of server"))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await concurrency.cancel_and_wait(*tasks)
        if not serving.cancelled():
            serving.result()


async def _serve(
    request: Request, deployment: Deployment, target: bytes, upload: _ReadAhead, send: Send
) -> None:
    activation: Activation = request.app.state.services.deployments.activation
    hub, given = request.app.state.hub, request.headers
    has_body = "transfer-encoding" in given or given.get("content-length", "0") != "0"
    headers = without_hops(given.raw, _FOR_US)
    if upload.is_tunnel:
        headers += _switching(given)
    if "transfer-encoding" in given:
        headers.append((b"transfer-encoding", b"chunked"))
    content = upload.pieces() if has_body or upload.is_tunnel else None
    call = Call(request.method, target, headers, content)
    async with activation.call(deployment, call, hub) as answer:
        await _pass_back(answer, send)


async def _pass_back(answer: StreamedAnswer, send: Send) -> None:
    headers = without_hops(answer.headers.raw, _OF_THE_SERVER)
    if answer.status == SWITCHED:
        headers += _switching(answer.headers)
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    try:
        async with aclosing(answer.pieces) as pieces:
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
    except (Unreachable, MalformedRequest) as error:
        log.warning("an answer broke off: %s", error.message)
        return  # the server closes the connection, so that the caller can tell
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _switching(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """What one connection says to the next of the protocol that both are to speak."""
    return [(b"connection", b"upgrade"), (b"upgrade", headers.get("upgrade", "").encode())]


def _taken_apart(scope: Scope) -> tuple[str, bytes]:
    """The slug, and what the replica is asked for: nothing of that is decoded."""
    raw: bytes = scope["raw_path"]
    slug, _, path = raw.removeprefix(f"{ACTIVATOR}/".encode()).partition(b"/")
    query: bytes = scope["query_string"]
    return slug.decode("latin-1"), b"/" + path + (b"?" + query if query else b"")


class _ReadAhead:
    """The body of a request, read a little ahead of who takes it.

    That of a tunnel is whatever comes until the caller leaves.
    """

    def __init__(self, receive: Receive, *, is_tunnel: bool) -> None:
        self._receive = receive
        self.is_tunnel = is_tunnel
        self._held = bytearray()
        self._is_whole = False
        self._has_left = False
        self._moved = asyncio.Event()
        self._room = asyncio.Event()

    async def until_gone(self) -> None:
        """Read; returns once the caller has hung up."""
        while not self._has_left:
            message: Message = await self._receive()
            self._has_left = message["type"] == "http.disconnect"
            self._held += message.get("body", b"")
            is_last = not (self._has_left or self.is_tunnel or message.get("more_body"))
            self._is_whole = self._is_whole or is_last
            self._moved.set()
            while len(self._held) > AHEAD_BYTES:
                self._room.clear()
                await self._room.wait()

    async def pieces(self) -> AsyncGenerator[bytes]:
        """Raises MalformedRequest when the caller leaves before the end."""
        while True:
            await self._moved.wait()
            self._moved.clear()
            piece, self._held = bytes(self._held), bytearray()
            self._room.set()
            if piece:
                yield piece
            if self._is_whole and not self._held:
                return
            if self._has_left and self.is_tunnel:
                return
            if self._has_left:
                raise MalformedRequest("The caller left before the end of the body.")
