"""The headers of resumable uploads: tus 1.0.0 with creation, termination, checksum, expiration."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pipeline.errors import InvalidInput, MalformedRequest

VERSION: Final = "1.0.0"
EXTENSIONS: Final = "creation,termination,checksum,expiration"
ANSWERED: Final = (
    "Tus-Checksum-Algorithm",
    "Tus-Extension",
    "Tus-Max-Size",
    "Tus-Resumable",
    "Tus-Version",
    "Upload-Expires",
    "Upload-Length",
    "Upload-Metadata",
    "Upload-Offset",
)
"""Headers of answers."""
ALGORITHMS: Final = {"sha1": 20, "sha256": 32}
"""Name and bytes of a digest."""
VALUE_MAX: Final = 512
_KEYS: Final = {
    "name": "name",
    "filename": "filename",
    "repoTag": "repo_tag",
    "platform": "platform",
    "model": "model",
    "version": "version",
}
_NUMBER = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Checksum:
    algorithm: str
    digest: bytes


def count(text: str | None, header: str) -> int:
    """A number of bytes. Raises MalformedRequest."""
    if text is None or not _NUMBER.fullmatch(text):
        raise MalformedRequest(f"{header} must be a number of bytes.")
    return int(text)


def checksum(text: str | None) -> Checksum | None:
    """`sha1 <Base64>` or `sha256 <Base64>`. Raises MalformedRequest."""
    if text is None:
        return None
    algorithm, _, encoded = text.strip().partition(" ")
    if algorithm not in ALGORITHMS:
        raise MalformedRequest(f"Upload-Checksum knows {' and '.join(ALGORITHMS)} only.")
    digest = _decoded(encoded, "Upload-Checksum")
    if len(digest) != ALGORITHMS[algorithm]:
        raise MalformedRequest(f"Upload-Checksum holds no digest of {algorithm}.")
    return Checksum(algorithm, digest)


def wish(metadata: str | None) -> dict[str, str]:
    """The fields of an `UploadWish` that `Upload-Metadata` asks for; unknown keys are left alone.

    Raises MalformedRequest, and InvalidInput for a model without a version or the reverse.
    """
    texts = map(str.strip, (metadata or "").split(","))
    pairs = dict(_pair(text) for text in texts if text.partition(" ")[0] in _KEYS)
    known = {_KEYS[key]: value for key, value in pairs.items() if value}
    if ("model" in known) != ("version" in known):
        raise InvalidInput("Upload-Metadata names model and version, or neither.", field="model")
    return known


def _pair(text: str) -> tuple[str, str]:
    key, _, encoded = text.partition(" ")
    try:
        value = _decoded(encoded, f"Upload-Metadata of {key[:50]!r}").decode()
    except UnicodeDecodeError:
        raise MalformedRequest(f"Upload-Metadata of {key[:50]!r} is not UTF-8.") from None
    if len(value) > VALUE_MAX or not value.isprintable():
        raise MalformedRequest(
            f"Upload-Metadata is key and Base64, up to {VALUE_MAX} printable characters each."
        )
    return key, value


def _decoded(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise MalformedRequest(f"{what} is not Base64.") from None


def metadata(wish: Mapping[str, str | None]) -> str:
    """`Upload-Metadata` that asks for these fields; empty when it asks for nothing."""
    asked = ((key, wish.get(field)) for key, field in _KEYS.items())
    encoded = ((key, base64.b64encode(text.encode()).decode()) for key, text in asked if text)
    return ",".join(f"{key} {text}" for key, text in encoded)
