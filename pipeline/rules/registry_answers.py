"""What the status of a registry's answer means for us."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

from pipeline.errors import (
    ManifestNotFound,
    RegistryDenied,
    RegistryError,
    RegistryProtocolError,
    RegistryUnavailable,
)

RETRY_AFTER_MAX_S: Final = 3600


def refusal(
    status: int, headers: Mapping[str, str], *, registry: str, wanted: str
) -> RegistryError:
    """The error for an answer that does not bring `wanted`. Header names are in lower case."""
    if status in (401, 403):
        # Registries that hide private repositories answer the same for absent ones.
        return RegistryDenied(
            f"{registry} denied access to {wanted}: it may be private or absent; check the"
            " reference and the credentials.",
            registry=registry,
        )
    if status == 404:
        return ManifestNotFound(
            f"{registry} has no {wanted}: check the reference.", registry=registry
        )
    if status == 429:
        return RegistryUnavailable(
            f"{registry} asks for fewer requests: it is asked again later.",
            kind="other",
            registry=registry,
            retry_after_s=retry_after_s(headers),
        )
    if status >= 500:
        return RegistryUnavailable(
            f"{registry} answered {status} when asked for {wanted}.",
            kind="other",
            registry=registry,
            retry_after_s=retry_after_s(headers),
        )
    return RegistryProtocolError(
        f"{registry} answered {status} when asked for {wanted}, which no registry does: check"
        " that it is an OCI registry.",
        registry=registry,
    )


def retry_after_s(headers: Mapping[str, str]) -> int | None:
    """Seconds of `Retry-After`, at most an hour. A date counts from the answer's own `Date`."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdecimal():
        return min(int(text[:9]), RETRY_AFTER_MAX_S)
    try:
        wait = parsedate_to_datetime(text) - parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, TypeError):
        return None
    return min(max(0, int(wait.total_seconds())), RETRY_AFTER_MAX_S)
