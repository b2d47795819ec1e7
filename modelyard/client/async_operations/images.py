"""Operations: images.

Made of the OpenAPI document by `make docs`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import httpx

from modelyard.client.asynchronous import AsyncSender
from modelyard.client.calls import Call

if TYPE_CHECKING:
    from modelyard.client.calls import Content
    from modelyard.client.types.images import (
        Build,
        BuildSpec,
        BuildStatus,
        DigestList,
        Image,
        ImageNodes,
        ImageSpec,
        ImageStatus,
        PresentBlobs,
        UploadView,
    )


class AsyncImages(AsyncSender):
    """Images."""

    async def submit_image(
        self,
        body: ImageSpec | None = None,
        *,
        wait: float | None = None,
        idempotency_key: str | None = None,
        name: str | None = None,
        repo_tag: str | None = None,
        platform: str | None = None,
        content: Content | None = None,
        content_type: str = "application/x-tar",
    ) -> Image:
        """Bring an image by reference. It is recorded at once and validated afterwards."""
        found: Image = await self._json(
            Call(
                "POST",
                "/yard/v1/images",
                query={"wait": wait, "name": name, "repoTag": repo_tag, "platform": platform},
                headers={"Idempotency-Key": idempotency_key},
                body=body,
                content=content,
                content_type=content_type,
            )
        )
        return found

    def list_images(
        self,
        *,
        limit: int | None = None,
        status: ImageStatus | None = None,
        name: str | None = None,
        superseded: bool | None = None,
    ) -> AsyncIterator[Image]:
        """Images of the organisation, newest first. Deleted ones appear when `status` asks for
        them."""
        return self._pages(
            Call(
                "GET",
                "/yard/v1/images",
                query={"status": status, "name": name, "superseded": superseded},
            ),
            limit,
        )

    async def find_image(self, *, called: str) -> Image:
        """The image that a launch would take for this text: a uuid or its beginning, a name, a
        reference, `name@digest` or a digest. Of a name that several were pushed under, the
        newest."""
        found: Image = await self._json(
            Call("GET", "/yard/v1/images/find", query={"called": called})
        )
        return found

    async def get_image(self, uuid: str) -> Image:
        """One image, with the findings of its validation and the needs that it declares."""
        found: Image = await self._json(Call("GET", "/yard/v1/images/{}", (uuid,)))
        return found

    async def delete_image(self, uuid: str, *, if_match: str | None = None) -> Image:
        """Forget an image that no container uses. A repeat does nothing."""
        found: Image = await self._json(
            Call("DELETE", "/yard/v1/images/{}", (uuid,), headers={"if-match": if_match})
        )
        return found

    async def list_image_nodes(self, uuid: str) -> ImageNodes:
        """Which nodes could run a container of it now, and for each other one every reason why
        not: the check of the scheduler itself."""
        found: ImageNodes = await self._json(Call("GET", "/yard/v1/images/{}/nodes", (uuid,)))
        return found

    async def build_image(
        self,
        body: BuildSpec | None = None,
        *,
        wait: float | None = None,
        idempotency_key: str | None = None,
        name: str | None = None,
        dockerfile: str | None = None,
        target: str | None = None,
        secret: str | None = None,
        node: str | None = None,
        content: Content | None = None,
        content_type: str = "application/x-tar",
    ) -> Build:
        """Build an image from a folder of a node or from a Git repository, and list it."""
        found: Build = await self._json(
            Call(
                "POST",
                "/yard/v1/builds",
                query={
                    "wait": wait,
                    "name": name,
                    "dockerfile": dockerfile,
                    "target": target,
                    "secret": secret,
                    "node": node,
                },
                headers={"Idempotency-Key": idempotency_key},
                body=body,
                content=content,
                content_type=content_type,
            )
        )
        return found

    def list_builds(
        self, *, limit: int | None = None, status: BuildStatus | None = None
    ) -> AsyncIterator[Build]:
        """Builds of the organisation, newest first."""
        return self._pages(Call("GET", "/yard/v1/builds", query={"status": status}), limit)

    async def get_build(self, uuid: str) -> Build:
        """One build, with the last lines of its output."""
        found: Build = await self._json(Call("GET", "/yard/v1/builds/{}", (uuid,)))
        return found

    async def cancel_build(self, uuid: str) -> Build:
        """End a build that is not built yet: it has failed then. One that is over stays as it
        is."""
        found: Build = await self._json(Call("DELETE", "/yard/v1/builds/{}", (uuid,)))
        return found

    def read_output(self, uuid: str) -> AsyncIterator[str]:
        """What a build writes, from its beginning until it is over. It is kept for 7 days."""
        return self._text(Call("GET", "/yard/v1/builds/{}/output", (uuid,)))

    async def create_upload(
        self, *, upload_length: int, upload_metadata: str | None = None
    ) -> httpx.Headers:
        """Begin an upload of `Upload-Length` bytes."""
        return await self._headers(
            Call(
                "POST",
                "/yard/v1/uploads",
                headers={
                    "Upload-Length": str(upload_length),
                    "Upload-Metadata": upload_metadata,
                    "Tus-Resumable": "1.0.0",
                },
            )
        )

    def list_uploads(self, *, limit: int | None = None) -> AsyncIterator[UploadView]:
        """Uploads of the organisation, newest first, until they are given up or expire."""
        return self._pages(
            Call("GET", "/yard/v1/uploads", headers={"Tus-Resumable": "1.0.0"}), limit
        )

    async def describe_uploads(self) -> httpx.Headers:
        """What this server can do. No token is needed."""
        return await self._headers(Call("OPTIONS", "/yard/v1/uploads"))

    async def present_layers(self, body: DigestList) -> PresentBlobs:
        """Which of these layers the organisation has sent before, so that they can be left out."""
        found: PresentBlobs = await self._json(
            Call("POST", "/yard/v1/uploads/present", headers={"Tus-Resumable": "1.0.0"}, body=body)
        )
        return found

    async def locate_upload(self, id: str) -> httpx.Headers:
        """Where to go on."""
        return await self._headers(
            Call("HEAD", "/yard/v1/uploads/{}", (id,), headers={"Tus-Resumable": "1.0.0"})
        )

    async def get_upload(self, id: str) -> UploadView:
        """How far it is, and what became of it."""
        found: UploadView = await self._json(
            Call("GET", "/yard/v1/uploads/{}", (id,), headers={"Tus-Resumable": "1.0.0"})
        )
        return found

    async def continue_upload(
        self,
        id: str,
        content: Content,
        *,
        upload_offset: int,
        upload_checksum: str | None = None,
        content_type: str = "application/offset+octet-stream",
    ) -> httpx.Headers:
        """Append the body at `Upload-Offset`. What arrived before a cut is kept."""
        return await self._headers(
            Call(
                "PATCH",
                "/yard/v1/uploads/{}",
                (id,),
                headers={
                    "Upload-Offset": str(upload_offset),
                    "Upload-Checksum": upload_checksum,
                    "Tus-Resumable": "1.0.0",
                },
                content=content,
                content_type=content_type,
            )
        )

    async def delete_upload(self, id: str) -> None:
        """Give it up, with all its bytes."""
        await self._nothing(
            Call("DELETE", "/yard/v1/uploads/{}", (id,), headers={"Tus-Resumable": "1.0.0"})
        )
