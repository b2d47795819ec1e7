"""What somebody asks for who is about to send an archive: checked before its first byte."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pipeline.core import records
from pipeline.core.ingested import Wish
from pipeline.errors import AlreadyExists
from pipeline.rules import image_names, platforms
from schemas.base import Shape
from schemas.image import Image, ImageSource
from schemas.states import ImageStatus

if TYPE_CHECKING:
    from pipeline.adapters.store import Store

UNNAMED: Final = "upload"


class _Request(Shape):
    source: ImageSource
    length: int | None
    name: str | None
    filename: str | None
    repo_tag: str | None
    platform: str | None


def require_sound(wish: Wish) -> str:
    """What the image is called until its archive tells. Raises InvalidInput, naming the field."""
    if wish.name is not None:
        image_names.require(wish.name, "name")
    if wish.repo_tag is not None:
        image_names.require(wish.repo_tag, "repoTag", most=image_names.REPO_TAG_MAX)
    if wish.platform:
        platforms.parse(wish.platform)
    return wish.name or wish.repo_tag or image_names.shown(wish.filename) or UNNAMED


def fingerprint(wish: Wish, source: ImageSource, length: int | None) -> str:
    """Tells a retry from a reused key, as far as that is known before the archive is here."""
    request = _Request(
        source=source,
        length=length,
        name=wish.name,
        filename=wish.filename,
        repo_tag=wish.repo_tag,
        platform=wish.platform,
    )
    return records.fingerprint(request)


def replayed(earlier: Image, image: Image) -> Image:
    """The record of the first request with this key. Raises KeyReused for another request."""
    # Records of before there were fingerprints of archives have none.
    return records.replayed(earlier, is_same=earlier.request_hash in (None, image.request_hash))


async def refuse_chosen(store: Store, org: str, name: str) -> None:
    """Pushes of one name replace each other; what was named by reference is not replaced.

    Raises AlreadyExists.
    """
    chosen = {"name": name, "named": True, "status": {"$ne": ImageStatus.DELETED.value}}
    if await store.find_one(Image, org=org, where=chosen):
        raise AlreadyExists(
            f"An image submitted by reference is named {name}: delete it or choose another name."
        )
