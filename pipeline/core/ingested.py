"""What taking in a TAR means for those who ask for it: the question and its answer.

`pipeline.core.ingest.Ingest` fulfils `Receiver`; `pipeline.core.deliveries.Deliveries` keeps the
image record beside it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from schemas.image import Finding, Needs, Platform, ReferenceParts

ReceiveProgress = Callable[[int, int | None], Awaitable[None]]
"""Called with bytes received and bytes in total (None while unknown). It should return soon: the
TAR does not flow meanwhile."""


@dataclass(frozen=True, slots=True)
class Ingested:
    """An image that lies in the platform's registry, every digest of it checked."""

    reference: str
    """`registry/repository:tag`."""
    pinned: str
    """`registry/repository@sha256:…`: what nodes pull."""
    digest: str
    """Of the manifest."""
    size_bytes: int
    """Configuration plus layers as they are stored."""
    received_bytes: int
    """As they came in: compressed, when the TAR was."""
    parts: ReferenceParts
    platform: Platform
    needs: Needs
    image_labels: Mapping[str, str]
    has_healthcheck: bool
    repo_tags: tuple[str, ...]
    """Names that the archive gives to the chosen image."""
    findings: tuple[Finding, ...]
    """None of them is an error: what is wrong with an archive is raised."""
    replaced: str | None
    """Digest that the tag named before."""
    is_first: bool
    """The repository did not have this manifest before."""


class Receiver(Protocol):
    """Streams one TAR into the registry while it arrives."""

    async def receive(
        self,
        stream: AsyncIterator[bytes],
        *,
        org: str,
        repository: str | None = None,
        tag: str | None = None,
        name: str | None = None,
        repo_tag: str | None = None,
        platform: str | None = None,
        length: int | None = None,
        progress: ReceiveProgress,
    ) -> Ingested:
        """Store the image of the archive as `repository:tag` and return what it is.

        Layers are shared within `org`. Without a `repository` the image lies among the
        organisation's own, called `name`, else like its RepoTag in the archive. `length` is how
        many bytes will come, when that is known.

        The tag is written last. Whatever is raised, also for a sender who vanished and when
        cancelled, no tag, open upload or temporary file is left behind. Raises the ImageRejected
        family, TooLarge, InvalidInput for a malformed `platform`, and the RegistryError family.
        """
        ...
