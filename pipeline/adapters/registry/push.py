"""Writing into the platform's own registry: blobs as they flow, manifests last.

OCI distribution specification 1.1. Blobs of an organisation are pushed into one repository, its
pool, and mounted from there into those of its images: what it sent once it never sends again.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec

from pipeline.adapters.registry.push_connection import Answer, Endpoint, PushConnection
from pipeline.adapters.registry.tokens import RegistryTokens
from pipeline.errors import ImageIncomplete, RegistryProtocolError, YardError
from pipeline.oci import manifests

log = logging.getLogger(__name__)

P = ParamSpec("P")

OCTETS: Final = {"Content-Type": "application/octet-stream"}


class RegistryPush:
    """Safe to share. Everything raises the RegistryError family."""

    def __init__(
        self, tokens: RegistryTokens, *, plain_hosts: frozenset[str] = frozenset()
    ) -> None:
        self.registry = tokens.registry
        self._endpoint = Endpoint(tokens, plain_hosts=plain_hosts)
        self._closing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def open(self, pool: str) -> AsyncIterator[PushSession]:
        """One archive on its way in. At the end no upload is left open, whatever happened."""
        pushing = PushSession(PushConnection(self._endpoint), pool)
        try:
            yield pushing
        finally:
            # A second cancellation must not leave behind what the first one began to clear.
            closing = asyncio.create_task(pushing.close(), name="end of a push")
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            await asyncio.shield(closing)

    async def close(self) -> None:
        """Returns when every cancelled upload is cleared."""
        await asyncio.gather(*self._closing)


def _uncut(
    request: Callable[Concatenate[PushSession, P], Coroutine[Any, Any, None]],
) -> Callable[Concatenate[PushSession, P], Coroutine[Any, Any, None]]:
    """A request that is finished even when its caller is cancelled: otherwise the registry might
    hold an upload that nobody knows."""

    @wraps(request)
    async def uncut(pushing: PushSession, /, *args: P.args, **kwargs: P.kwargs) -> None:
        pushing.asking = asyncio.ensure_future(request(pushing, *args, **kwargs))
        await asyncio.shield(pushing.asking)

    return uncut


class PushSession:
    """Requests of one archive, one after another, with one blob at a time that flows."""

    def __init__(self, connection: PushConnection, pool: str) -> None:
        self.asking: asyncio.Future[None] | None = None
        self._connection = connection
        self._pool = pool
        self._upload: str | None = None
        """Where the blob that flows is continued."""
        self._is_flowing = False

    @property
    def registry(self) -> str:
        return self._connection.registry

    async def size_of(self, digest: str) -> int | None:
        """Bytes of a blob of the pool; None when it is not there."""
        answer = await self._connection.ask("HEAD", f"/v2/{self._pool}/blobs/{digest}")
        if answer.status == 404:
            return None
        answer.require(200, "a blob")
        length = answer.headers.get("content-length", "")
        return int(length) if length.isdecimal() else None

    @_uncut
    async def begin(self) -> None:
        """A blob whose digest will be known at its end: it exists once `commit` returns."""
        answer = await self._connection.ask("POST", f"/v2/{self._pool}/blobs/uploads/")
        answer.require(202, "an upload")
        self._upload = _location(answer)
        self._is_flowing = True
        await self._connection.begin("PATCH", self._upload, OCTETS)

    async def write(self, pieces: Sequence[bytes | memoryview]) -> None:
        """More of the blob that was begun."""
        await self._connection.send(pieces)

    @_uncut
    async def commit(self, digest: str) -> None:
        """The blob that was begun exists now. Raises when its content has another digest."""
        location = await self._finish()
        answer = await self._connection.ask("PUT", _with_query(location, f"digest={digest}"))
        if answer.status != 201:
            await self._abort()
        answer.require(201, "a blob")
        self._upload = None

    async def put(self, digest: str, content: bytes) -> None:
        """A small blob, whole. Idempotent."""
        if await self.size_of(digest) is None:
            await self.begin()
            await self.write([content])
            await self.commit(digest)

    def read(self, digest: str) -> AsyncIterator[bytes]:
        """The content of a blob of the pool. Nothing else may be asked until it ends."""
        return self._connection.body(f"/v2/{self._pool}/blobs/{digest}")

    async def head_of(self, digest: str, count: int) -> bytes:
        """The first bytes of a blob of the pool, at least `count` when it has them."""
        answer = await self._connection.ask(
            "GET", f"/v2/{self._pool}/blobs/{digest}", headers={"Range": f"bytes=0-{count - 1}"}
        )
        if answer.status == 416:
            return b""
        answer.require(206, "a blob")
        return answer.body

    @_uncut
    async def mount(self, digest: str, repository: str) -> None:
        """Make a blob of the pool one of `repository` too, without sending it. Idempotent."""
        path = f"/v2/{repository}/blobs/uploads/?mount={digest}&from={self._pool}"
        answer = await self._connection.ask("POST", path)
        if answer.status == 202:
            await self._connection.ask("DELETE", _location(answer))
        answer.require(201, "a blob of another repository")

    async def put_manifest(
        self, repository: str, target: str, body: bytes, media_type: str
    ) -> None:
        """Under a tag or its digest. Raises ImageIncomplete when the registry refuses it."""
        answer = await self._connection.ask(
            "PUT",
            f"/v2/{repository}/manifests/{target}",
            headers={"Content-Type": media_type},
            content=body,
        )
        if answer.status in (400, 404, 413, 422):
            raise ImageIncomplete("The registry refuses the image's manifest: make it again.")
        answer.require(201, "a manifest")

    async def manifest(self, repository: str, target: str) -> tuple[bytes, str] | None:
        """Content and media type of a manifest, or None."""
        path = f"/v2/{repository}/manifests/{target}"
        answer = await self._connection.ask("GET", path, headers={"Accept": manifests.ACCEPT})
        if answer.status == 404:
            return None
        answer.require(200, "a manifest")
        return answer.body, answer.headers.get("content-type", manifests.OCI_MANIFEST)

    async def digest_of(self, repository: str, tag: str) -> str | None:
        """What a tag names now; None when it is not there."""
        found = await self.manifest(repository, tag)
        return found and "sha256:" + hashlib.sha256(found[0]).hexdigest()

    async def delete_manifest(self, repository: str, digest: str) -> None:
        """With all its tags. Idempotent."""
        answer = await self._connection.ask("DELETE", f"/v2/{repository}/manifests/{digest}")
        if answer.status != 404:
            answer.require(202, "a manifest")

    async def delete_tag(self, repository: str, tag: str) -> None:
        """Where the registry can do that: many cannot, and the tag stays. Idempotent."""
        answer = await self._connection.ask("DELETE", f"/v2/{repository}/manifests/{tag}")
        if answer.status not in (202, 404):
            log.warning("the registry keeps the tag %s:%s", repository, tag)

    async def close(self) -> None:
        """Cancels the upload that is still open, if there is one. Never raises our errors."""
        try:
            if self.asking is not None:
                await asyncio.gather(self.asking, return_exceptions=True)
            await self._abort()
        except YardError as error:
            # The registry is away; it purges what nobody continues.
            log.warning("an upload stays open in the registry: %s", error.message)
        finally:
            self._connection.close()

    async def _abort(self) -> None:
        """Nothing stays of the blob that was begun. Idempotent.

        Its body is ended properly first: after a cut the registry refuses to cancel the upload.
        """
        if self._upload is not None:
            location, self._upload = await self._finish(), None
            await self._connection.ask("DELETE", location)

    async def _finish(self) -> str:
        """Where the upload goes on, once all that was written is there."""
        assert self._upload is not None, "no blob was begun"
        if self._is_flowing:
            self._is_flowing = False
            answer = await self._connection.end()
            answer.require(202, "a blob")
            self._upload = _location(answer)
        return self._upload


def _location(answer: Answer) -> str:
    """Path and query; registries may send a whole URL of their own."""
    where = answer.headers.get("location", "")
    if where.startswith(("http://", "https://")):
        where = "/" + where.split("/", 3)[-1]
    if not where.startswith("/") or any(c in where for c in "\r\n "):
        raise RegistryProtocolError(
            f"{answer.registry} does not say where an upload goes on: check that it is an OCI"
            " registry.",
            registry=answer.registry,
        )
    return where


def _with_query(path: str, query: str) -> str:
    return f"{path}{'&' if '?' in path else '?'}{query}"
