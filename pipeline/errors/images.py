"""What is wrong with an image or its archive."""

from __future__ import annotations

from pipeline.errors.base import YardError


class ImageRejected(YardError):
    """The image was looked at and cannot be used. `facts["findings"]` lists all reasons."""

    code = "image_rejected"


class DigestMismatch(ImageRejected):
    code = "digest_mismatch"


class NotATar(ImageRejected):
    code = "not_a_tar"


class TarTruncated(ImageRejected):
    """It ends early, or its compression is broken."""

    code = "tar_truncated"


class TarUnsafePath(ImageRejected):
    """An absolute path, `..`, or a link that leaves the archive."""

    code = "tar_unsafe_path"


class TarUnsafeEntry(ImageRejected):
    """A device, a FIFO, or another kind that no image archive holds."""

    code = "tar_unsafe_entry"


class TarDuplicateEntry(ImageRejected):
    code = "tar_duplicate_entry"


class ImageIncomplete(ImageRejected):
    """No manifest, or something that it names is missing or unreadable."""

    code = "image_incomplete"


class ImageAmbiguous(ImageRejected):
    """Several images and no choice. `facts["tags"]` lists them."""

    code = "image_ambiguous"


class ArchiveBomb(ImageRejected):
    code = "archive_bomb"


class WrongPlatform(ImageRejected):
    code = "wrong_platform"
