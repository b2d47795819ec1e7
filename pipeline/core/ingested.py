"""What taking in a TAR means for those who ask for it: the question and its answer.

`pipeline.core.ingest.Ingest` fulfils `Receiver`; `pipeline.core.deliveries.Deliveries` keeps the
image record beside it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from schemas.image import Finding, Needs, Platform, ReferenceParts

Piece = bytes | memoryview
"""Of an archive; a view stays what it is for as long as somebody holds it."""

ReceiveProgress = Callable[[int, int | None], Awaitable[None]]
"""Called with bytes received and bytes in total (None while unknown). It should return soon: the
TAR does not flow meanwhile."""


Proving = Callable[[], Awaitable[None]]
"""Called once, when the last byte is here and before anything becomes visible. What it raises
ends the delivery."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to become of an archive. Everything may be left to the archive."""

    repository: str | None = None
    """In the platform's registry; None: among the organisation's own, by name."""
    tag: str | None = None
    name: str | None = None
    """What the image is called; None: like its RepoTag in the archive."""
    filename: str | None = None
    repo_tag: str | None = None
    """Which image of an archive with several."""
    platform: str | None = None
    """Which platform of an image with several, like `linux/arm64`."""


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
    image_annotations: Mapping[str, str]
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
        stream: AsyncIterator[Piece],
        *,
        org: str,
        wish: Wish,
        length: int | None,
        progress: ReceiveProgress,
        proving: Proving,
    ) -> Ingested:
        """Store the image of the archive and return what it is.

        Layers are shared within `org`. `length` is how many bytes will come, when that is known.

        The tag is written last. Whatever is raised, also for a sender who vanished and when
        cancelled, no tag, open upload or temporary file is left behind. Raises the ImageRejected
        family, TooLarge, InvalidInput for a malformed `platform`, and the RegistryError family.
        """
        ...
