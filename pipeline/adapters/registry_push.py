"""Writing into the platform's own registry: blobs as they flow, manifests last.

OCI distribution specification 1.1. Blobs of an organisation are pushed into one repository, its
pool, and mounted from there into those of its images: what it sent once it never sends again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from pipeline.adapters.registry_link import Answer, Endpoint, Link
from pipeline.errors import ImageIncomplete, RegistryProtocolError, YardError
from pipeline.rules import manifests
from pipeline.rules.registry_answers import refusal

log = logging.getLogger(__name__)

T = TypeVar("T")

OCTETS: Final = {"Content-Type": "application/octet-stream"}


class RegistryPush:
    """Safe to share. Everything raises the RegistryError family."""

    def __init__(self, registry: str, *, plain_hosts: frozenset[str] = frozenset()) -> None:
        self.registry = registry
        self._endpoint = Endpoint(registry, plain_hosts=plain_hosts)
        self._closing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def open(self, pool: str) -> AsyncIterator[Pushing]:
        """One archive on its way in. At the end no upload is left open, whatever happened."""
        pushing = Pushing(Link(self._endpoint), pool)
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


class Pushing:
    """Requests of one archive, one after another.

    A request that was begun is finished even when its caller is cancelled: otherwise the registry
    might hold an upload that nobody knows.
    """

    def __init__(self, link: Link, pool: str) -> None:
        self._link = link
        self._pool = pool
        self._open: BlobUpload | None = None
        self._asking: asyncio.Future[Any] | None = None

    @property
    def registry(self) -> str:
        return self._link.registry

    async def size_of(self, digest: str) -> int | None:
        """Bytes of a blob of the pool; None when it is not there."""
        answer = await self._link.ask("HEAD", f"/v2/{self._pool}/blobs/{digest}")
        if answer.status == 404:
            return None
        self._require(answer, 200, "a blob")
        length = answer.headers.get("content-length", "")
        return int(length) if length.isdecimal() else None

    async def begin(self) -> BlobUpload:
        """A blob whose digest will be known at its end. One at a time."""
        return await self._uncut(self._begin())

    async def put(self, digest: str, content: bytes) -> None:
        """A small blob, whole. Idempotent."""
        if await self.size_of(digest) is None:
            upload = await self.begin()
            await upload.write([content])
            await self.commit(upload, digest)

    async def commit(self, upload: BlobUpload, digest: str) -> None:
        """The blob exists now. Raises when its content has another digest."""
        await self._uncut(upload.commit(digest))

    def read(self, digest: str) -> AsyncIterator[bytes]:
        """The content of a blob of the pool. Nothing else may be asked until it ends."""
        return self._link.body(f"/v2/{self._pool}/blobs/{digest}")

    async def head_of(self, digest: str, count: int) -> bytes:
        """The first bytes of a blob of the pool, at least `count` when it has them."""
        headers = {"Range": f"bytes=0-{count - 1}"}
        answer = await self._link.ask("GET", f"/v2/{self._pool}/blobs/{digest}", headers=headers)
        if answer.status == 416:
            return b""
        self._require(answer, 206, "a blob")
        return answer.body

    async def mount(self, digest: str, repository: str) -> None:
        """Make a blob of the pool one of `repository` too, without sending it. Idempotent."""
        await self._uncut(self._mount(digest, repository))

    async def put_manifest(
        self, repository: str, target: str, body: bytes, media_type: str
    ) -> None:
        """Under a tag or its digest. Raises ImageIncomplete when the registry refuses it."""
        answer = await self._link.ask(
            "PUT",
            f"/v2/{repository}/manifests/{target}",
            headers={"Content-Type": media_type},
            content=body,
        )
        if answer.status in (400, 404, 413, 422):
            raise ImageIncomplete("The registry refuses the image's manifest: make it again.")
        self._require(answer, 201, "a manifest")

    async def manifest(self, repository: str, target: str) -> tuple[bytes, str] | None:
        """Content and media type of a manifest, or None."""
        path = f"/v2/{repository}/manifests/{target}"
        answer = await self._link.ask("GET", path, headers={"Accept": manifests.ACCEPT})
        if answer.status == 404:
            return None
        self._require(answer, 200, "a manifest")
        return answer.body, answer.headers.get("content-type", manifests.OCI_MANIFEST)

    async def delete_manifest(self, repository: str, digest: str) -> None:
        """With all its tags. Idempotent."""
        answer = await self._link.ask("DELETE", f"/v2/{repository}/manifests/{digest}")
        if answer.status != 404:
            self._require(answer, 202, "a manifest")

    async def delete_tag(self, repository: str, tag: str) -> None:
        """Where the registry can do that: many cannot, and the tag stays. Idempotent."""
        answer = await self._link.ask("DELETE", f"/v2/{repository}/manifests/{tag}")
        if answer.status not in (202, 404):
            log.warning("the registry keeps the tag %s:%s", repository, tag)

    async def close(self) -> None:
        """Cancels the upload that is still open, if there is one. Never raises our errors."""
        try:
            if self._asking is not None:
                await asyncio.gather(self._asking, return_exceptions=True)
            if self._open is not None:
                await self._open.abort()
        except YardError as error:
            # The registry is away; it purges what nobody continues.
            log.warning("an upload stays open in the registry: %s", error.message)
        finally:
            self._link.close()

    async def _begin(self) -> BlobUpload:
        answer = await self._link.ask("POST", f"/v2/{self._pool}/blobs/uploads/")
        self._require(answer, 202, "an upload")
        self._open = BlobUpload(self._link, _location(answer, self._link.registry))
        await self._open.start()
        return self._open

    async def _mount(self, digest: str, repository: str) -> None:
        path = f"/v2/{repository}/blobs/uploads/?mount={digest}&from={self._pool}"
        answer = await self._link.ask("POST", path)
        if answer.status == 202:
            await self._link.ask("DELETE", _location(answer, self._link.registry))
        self._require(answer, 201, "a blob of another repository")

    async def _uncut(self, request: Coroutine[Any, Any, T]) -> T:
        asking = asyncio.ensure_future(request)
        self._asking = asking
        return await asyncio.shield(asking)

    def _require(self, answer: Answer, status: int, wanted: str) -> None:
        if answer.status != status:
            raise refusal(
                answer.status, answer.headers, registry=self._link.registry, wanted=wanted
            )


class BlobUpload:
    """A blob that flows. It exists in the registry once `commit` returns, and not before."""

    def __init__(self, link: Link, location: str) -> None:
        self._link = link
        self._location: str | None = location
        self._is_flowing = False

    async def start(self) -> None:
        assert self._location is not None, "it was not finished"
        self._is_flowing = True
        await self._link.begin("PATCH", self._location, OCTETS)

    async def write(self, pieces: Sequence[bytes | memoryview]) -> None:
        await self._link.send(pieces)

    async def commit(self, digest: str) -> None:
        location = await self._finish()
        answer = await self._link.ask("PUT", _with_query(location, f"digest={digest}"))
        if answer.status != 201:
            await self.abort()
            raise refusal(
                answer.status, answer.headers, registry=self._link.registry, wanted="a blob"
            )
        self._location = None

    async def abort(self) -> None:
        """Nothing of it stays. Idempotent.

        The body is ended properly first: after a cut the registry refuses to cancel the upload.
        """
        if self._location is None:
            return
        location, self._location = await self._finish(), None
        await self._link.ask("DELETE", location)

    async def _finish(self) -> str:
        """Where the upload goes on, once all that was written is there."""
        assert self._location is not None, "it was not finished"
        if self._is_flowing:
            self._is_flowing = False
            answer = await self._link.end()
            if answer.status != 202:
                raise refusal(
                    answer.status, answer.headers, registry=self._link.registry, wanted="a blob"
                )
            self._location = _location(answer, self._link.registry)
        return self._location


def _location(answer: Answer, registry: str) -> str:
    """Path and query; registries may send a whole URL of their own."""
    where = answer.headers.get("location", "")
    if where.startswith(("http://", "https://")):
        where = "/" + where.split("/", 3)[-1]
    if not where.startswith("/") or any(c in where for c in "\r\n "):
        raise RegistryProtocolError(
            f"{registry} does not say where an upload goes on: check that it is an OCI registry.",
            registry=registry,
        )
    return where


def _with_query(path: str, query: str) -> str:
    return f"{path}{'&' if '?' in path else '?'}{query}"
