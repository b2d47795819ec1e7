"""What is to be said about an image that a registry knows: everything, not the first thing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from pipeline.ports import ResolvedImage
from pipeline.rules import manifests, platforms, references
from schemas.image import Finding, Severity

HUGE_BYTES: Final = 20 * 1024**3

Rule = Callable[[ResolvedImage], Iterator[Finding]]


def examine(image: ResolvedImage) -> list[Finding]:
    """All findings, errors first. The image can be used when none of them is an error."""
    found = [finding for rule in RULES for finding in rule(image)]
    return sorted(found, key=lambda finding: _ORDER.index(finding.severity))


def _platform(image: ResolvedImage) -> Iterator[Finding]:
    if not platforms.is_supported(image.platform):
        supported = " or ".join(map(str, platforms.SUPPORTED))
        yield _error(
            "platform_unsupported",
            f"The image is for {image.platform}: build it for {supported}.",
        )


def _missing_layers(image: ResolvedImage) -> Iterator[Finding]:
    for digest in image.missing:
        yield _error(
            "layer_missing",
            f"The registry does not have the layer {digest}: push the image again.",
        )


def _no_layers(image: ResolvedImage) -> Iterator[Finding]:
    if not image.layers:
        yield _error("no_layers", "The image has no layers, so no program: build it again.")


def _foreign_layers(image: ResolvedImage) -> Iterator[Finding]:
    for layer in image.layers:
        if manifests.is_foreign(layer):
            yield _warning(
                "foreign_layer",
                f"The layer {layer.digest} lies outside the registry and was not looked for:"
                " push it with its foreign layers.",
            )


def _command(image: ResolvedImage) -> Iterator[Finding]:
    if not image.command:
        yield _error(
            "no_command", "The image says not what to run: give it an ENTRYPOINT or a CMD."
        )


def _ports(image: ResolvedImage) -> Iterator[Finding]:
    if not image.needs.ports:
        yield _warning(
            "no_port", "The image exposes no TCP port: name its port with EXPOSE to reach it."
        )


def _moving_name(image: ResolvedImage) -> Iterator[Finding]:
    if image.parts.tag == references.DEFAULT_TAG:
        yield _warning(
            "latest_tag", "The tag latest moves: use a tag that always means the same image."
        )
    elif image.parts.tag is None:
        yield _warning(
            "no_tag", "The reference has a digest only: add a tag, so that people see the version."
        )


def _healthcheck(image: ResolvedImage) -> Iterator[Finding]:
    if not image.has_healthcheck:
        yield _info("no_healthcheck", "The image has no HEALTHCHECK: add one, or a health probe.")


def _user(image: ResolvedImage) -> Iterator[Finding]:
    user = image.user.partition(":")[0]
    if user in ("", "root") or (user.isdecimal() and int(user) == 0):
        yield _info("runs_as_root", "The image runs as root: name another user with USER.")


def _size(image: ResolvedImage) -> Iterator[Finding]:
    if image.size_bytes > HUGE_BYTES:
        gib = image.size_bytes / 1024**3
        yield _info("huge", f"The image has {gib:.0f} GiB: a smaller one starts sooner.")


RULES: Final[tuple[Rule, ...]] = (
    _platform,
    _missing_layers,
    _no_layers,
    _foreign_layers,
    _command,
    _ports,
    _moving_name,
    _healthcheck,
    _user,
    _size,
)
_ORDER = (Severity.ERROR, Severity.WARNING, Severity.INFO)


def _error(code: str, message: str) -> Finding:
    return Finding(code=code, severity=Severity.ERROR, message=message)


def _warning(code: str, message: str) -> Finding:
    return Finding(code=code, severity=Severity.WARNING, message=message)


def _info(code: str, message: str) -> Finding:
    return Finding(code=code, severity=Severity.INFO, message=message)
