"""What a record keeps of an image that a registry holds, and all that is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pipeline.oci import image_needs, manifests, platforms, references
from pipeline.ports import ResolvedImage
from schemas.image import Finding, Image, Needs, Severity

HUGE_BYTES: Final = 20 * 1024**3


def facts(image: Image, resolved: ResolvedImage) -> dict[str, Any]:
    """Fields of the record `image` once it is known what it is."""
    return {
        "pinned": resolved.pinned,
        "digest": resolved.digest,
        "platform": resolved.platform,
        "size_bytes": resolved.size_bytes,
        "needs": _needs(image, resolved),
        "gpu_variables": image_needs.variables(resolved.env),
        "image_labels": resolved.labels,
        "image_annotations": resolved.annotations,
        "has_healthcheck": resolved.has_healthcheck,
    }


def _needs(image: Image, resolved: ResolvedImage) -> Needs:
    """What the image declares, and in its place what its owner says instead."""
    asked = image.requested_needs.model_dump(exclude_defaults=True) if image.requested_needs else {}
    return resolved.needs.model_copy(update=asked)


def examine(image: ResolvedImage) -> list[Finding]:
    """All findings, errors first. The image can be used when none of them is an error."""
    found = {
        Severity.ERROR: _errors(image),
        Severity.WARNING: _warnings(image),
        Severity.INFO: _remarks(image),
    }
    return [
        Finding(code=code, severity=severity, message=message)
        for severity, each in found.items()
        for code, message in each
    ]


def _errors(image: ResolvedImage) -> Iterator[tuple[str, str]]:
    if not platforms.is_supported(image.platform):
        supported = " or ".join(map(str, platforms.SUPPORTED))
        message = f"The image is for {image.platform}: build it for {supported}."
        yield "platform_unsupported", message
    for digest in image.missing:
        message = f"The registry does not have the layer {digest}: push the image again."
        yield "layer_missing", message
    if not image.layers:
        yield "no_layers", "The image has no layers, so no program: build it again."
    if not image.command:
        yield "no_command", "The image says not what to run: give it an ENTRYPOINT or a CMD."


def _warnings(image: ResolvedImage) -> Iterator[tuple[str, str]]:
    for layer in image.layers:
        if manifests.is_foreign(layer):
            message = (
                f"The layer {layer.digest} lies outside the registry and was not looked for:"
                " push it with its foreign layers."
            )
            yield "foreign_layer", message
    if not image.needs.ports:
        message = "The image exposes no TCP port: name its port with EXPOSE to reach it."
        yield "no_port", message
    for variable in image_needs.unreadable(image.env):
        message = (
            f"{variable} cannot be read and is left out of account; NVIDIA's container toolkit may"
            " refuse to start it: write it like cuda>=12.4."
        )
        yield "requirement_unreadable", message
    if image.parts.tag == references.DEFAULT_TAG:
        message = "The tag latest moves: use a tag that always means the same image."
        yield "latest_tag", message
    elif image.parts.tag is None:
        message = "The reference has a digest only: add a tag, so that people see the version."
        yield "no_tag", message


def _remarks(image: ResolvedImage) -> Iterator[tuple[str, str]]:
    if not image.has_healthcheck:
        yield "no_healthcheck", "The image has no HEALTHCHECK: add one, or a health probe."
    user = image.user.partition(":")[0]
    if user in ("", "root") or (user.isdecimal() and int(user) == 0):
        yield "runs_as_root", "The image runs as root: name another user with USER."
    if image.size_bytes > HUGE_BYTES:
        gib = image.size_bytes / 1024**3
        yield "huge", f"The image has {gib:.0f} GiB: a smaller one starts sooner."
