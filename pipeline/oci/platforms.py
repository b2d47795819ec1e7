"""Platforms: reading, comparing and choosing them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

from pipeline.errors import ImageRejected, InvalidInput
from pipeline.oci import manifests
from schemas.image import Platform

AMD64: Final = Platform(architecture="amd64")
ARM64: Final = Platform(architecture="arm64")
SUPPORTED: Final = (AMD64, ARM64)

_PART = re.compile(r"[a-z0-9_.]{1,32}")
_ARCHITECTURES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64"}
# What an architecture means when it names no variant.
_VARIANTS = {"arm64": "v8", "arm": "v7", "amd64": "v1"}

_Choice = TypeVar("_Choice")


def parse(text: str) -> Platform:
    """Read `os/architecture[/variant]`, or an architecture alone. Raises InvalidInput."""
    parts = text.lower().split("/")
    if len(parts) == 1:
        parts = ["linux", *parts]
    names = [_ARCHITECTURES.get(part, part) for part in parts]
    if len(names) > 3 or not all(_PART.fullmatch(name) for name in names):
        raise InvalidInput(
            f"{text[:100]!r} is not a platform: write it like linux/arm64.", field="platform"
        )
    return Platform(
        os=names[0], architecture=names[1], variant=names[2] if len(names) > 2 else None
    )


def fits(have: Platform, wanted: Platform) -> bool:
    """Whether an image for `have` is one for `wanted`. A variant counts only when asked for."""
    if (have.os, have.architecture) != (wanted.os, wanted.architecture):
        return False
    default = _VARIANTS.get(have.architecture)
    return wanted.variant is None or (have.variant or default) == wanted.variant


def is_supported(platform: Platform) -> bool:
    return any(fits(platform, supported) for supported in SUPPORTED)


def choose(
    offered: Sequence[tuple[Platform, _Choice]], *, wanted: Platform | None, host: Platform
) -> _Choice:
    """The offer for `wanted`; without it the host's platform, else another supported one.

    Among several that fit, the one without a variant or with the default one comes first.
    Raises ImageRejected when none fits.
    """
    for candidate in (wanted,) if wanted else (host, *SUPPORTED):
        fitting = [offer for offer in offered if fits(offer[0], candidate)]
        if fitting:
            return min(fitting, key=lambda offer: _oddity(offer[0]))[1]
    raise unavailable((platform for platform, _ in offered), wanted)


def unavailable(offered: Iterable[Platform], wanted: Platform | None) -> ImageRejected:
    return manifests.rejection("platform_unavailable", mismatch(offered, wanted))


def mismatch(offered: Iterable[Platform], wanted: Platform | None) -> str:
    """The refusal in words, with what is there."""
    there = ", ".join(sorted({str(platform) for platform in offered})[:20]) or "no platform"
    asked = str(wanted) if wanted else " or ".join(map(str, SUPPORTED))
    return f"The image is for {there}, not for {asked}: build it for that platform."


def _oddity(platform: Platform) -> bool:
    return platform.variant not in (None, _VARIANTS.get(platform.architecture))
