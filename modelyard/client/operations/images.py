"""Operations: images.

Made of the OpenAPI document by `make docs`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import httpx

from modelyard.client.blocking import Sender
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


class Images(Sender):
    """Images."""

    def submit_image(
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
        found: Image = self._json(
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
    ) -> Iterator[Image]:
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

    def find_image(self, *, called: str) -> Image:
        """The image that a launch would take for this text: a uuid or its beginning, a name, a
        reference, `name@digest` or a digest. Of a name that several were pushed under, the
        newest."""
        found: Image = self._json(Call("GET", "/yard/v1/images/find", query={"called": called}))
        return found

    def get_image(self, uuid: str) -> Image:
        """One image, with the findings of its validation and the needs that it declares."""
        found: Image = self._json(Call("GET", "/yard/v1/images/{}", (uuid,)))
        return found

    def delete_image(self, uuid: str, *, if_match: str | None = None) -> Image:
        """Forget an image that no container uses. A repeat does nothing."""
        found: Image = self._json(
            Call("DELETE", "/yard/v1/images/{}", (uuid,), headers={"if-match": if_match})
        )
        return found

    def list_image_nodes(self, uuid: str) -> ImageNodes:
        """Which nodes could run a container of it now, and for each other one every reason why
        not: the check of the scheduler itself."""
        found: ImageNodes = self._json(Call("GET", "/yard/v1/images/{}/nodes", (uuid,)))
        return found

    def build_image(
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
        found: Build = self._json(
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
    ) -> Iterator[Build]:
        """Builds of the organisation, newest first."""
        return self._pages(Call("GET", "/yard/v1/builds", query={"status": status}), limit)

    def get_build(self, uuid: str) -> Build:
        """One build, with the last lines of its output."""
        found: Build = self._json(Call("GET", "/yard/v1/builds/{}", (uuid,)))
        return found

    def cancel_build(self, uuid: str) -> Build:
        """End a build that is not built yet: it has failed then. One that is over stays as it
        is."""
        found: Build = self._json(Call("DELETE", "/yard/v1/builds/{}", (uuid,)))
        return found

    def read_output(self, uuid: str) -> Iterator[str]:
        """What a build writes, from its beginning until it is over. It is kept for 7 days."""
        return self._text(Call("GET", "/yard/v1/builds/{}/output", (uuid,)))

    def create_upload(
        self, *, upload_length: int, upload_metadata: str | None = None
    ) -> httpx.Headers:
        """Begin an upload of `Upload-Length` bytes."""
        return self._headers(
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

    def list_uploads(self, *, limit: int | None = None) -> Iterator[UploadView]:
        """Uploads of the organisation, newest first, until they are given up or expire."""
        return self._pages(
            Call("GET", "/yard/v1/uploads", headers={"Tus-Resumable": "1.0.0"}), limit
        )

    def describe_uploads(self) -> httpx.Headers:
        """What this server can do. No token is needed."""
        return self._headers(Call("OPTIONS", "/yard/v1/uploads"))

    def present_layers(self, body: DigestList) -> PresentBlobs:
        """Which of these layers the organisation has sent before, so that they can be left out."""
        found: PresentBlobs = self._json(
            Call("POST", "/yard/v1/uploads/present", headers={"Tus-Resumable": "1.0.0"}, body=body)
        )
        return found

    def locate_upload(self, id: str) -> httpx.Headers:
        """Where to go on."""
        return self._headers(
            Call("HEAD", "/yard/v1/uploads/{}", (id,), headers={"Tus-Resumable": "1.0.0"})
        )

    def get_upload(self, id: str) -> UploadView:
        """How far it is, and what became of it."""
        found: UploadView = self._json(
            Call("GET", "/yard/v1/uploads/{}", (id,), headers={"Tus-Resumable": "1.0.0"})
        )
        return found

    def continue_upload(
        self,
        id: str,
        content: Content,
        *,
        upload_offset: int,
        upload_checksum: str | None = None,
        content_type: str = "application/offset+octet-stream",
    ) -> httpx.Headers:
        """Append the body at `Upload-Offset`. What arrived before a cut is kept."""
        return self._headers(
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

    def delete_upload(self, id: str) -> None:
        """Give it up, with all its bytes."""
        self._nothing(
            Call("DELETE", "/yard/v1/uploads/{}", (id,), headers={"Tus-Resumable": "1.0.0"})
        )
