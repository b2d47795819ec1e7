"""A chosen image made visible in the platform's registry, and taken back again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipeline.core.ingested import Ingested
from pipeline.ports import Layer, ResolvedImage
from pipeline.rules import findings, manifests, requirements
from pipeline.rules.archive_choice import Chosen, sha256
from pipeline.rules.repositories import Place
from schemas.image import Finding, ReferenceParts, Severity

if TYPE_CHECKING:
    from pipeline.adapters.registry_push import Pushing


async def prepare(
    pushing: Pushing, chosen: Chosen, small: Mapping[str, bytes], place: Place
) -> None:
    """Everything but the manifest: what is small is sent, all is mounted. Idempotent.

    `small` holds the contents, by path, of files that are not in the pool yet.
    """
    config = sha256(chosen.config_body)
    await pushing.put(config, chosen.config_body)
    for path, layer in dict(chosen.layers).items():
        if path in small:
            await pushing.put(layer.digest, small[path])
    for digest in dict.fromkeys((config, *(layer.digest for _, layer in chosen.layers))):
        await pushing.mount(digest, place.repository)


async def publish(pushing: Pushing, chosen: Chosen, place: Place, received: int) -> Ingested:
    """The manifest under its tag: now the image is there, whole.

    What it takes to undo this is in the answer.
    """
    before = await pushing.manifest(place.repository, place.tag)
    known = await pushing.manifest(place.repository, chosen.digest)
    await pushing.put_manifest(place.repository, place.tag, chosen.manifest, chosen.media_type)
    image = _resolved(pushing.registry, chosen, place)
    return Ingested(
        reference=f"{pushing.registry}/{place.repository}:{place.tag}",
        pinned=f"{pushing.registry}/{place.repository}@{chosen.digest}",
        digest=chosen.digest,
        size_bytes=chosen.size_bytes,
        received_bytes=received,
        parts=image.parts,
        platform=chosen.platform,
        needs=image.needs,
        image_labels=image.labels,
        image_annotations=image.annotations,
        has_healthcheck=image.has_healthcheck,
        repo_tags=chosen.names,
        findings=tuple(_softened(finding) for finding in findings.examine(image)),
        replaced=sha256(before[0]) if before else None,
        is_first=known is None,
    )


async def withdraw(pushing: Pushing, ingested: Ingested) -> None:
    """The tag names again what it named before, unless it names something newer. Idempotent."""
    repository, tag = ingested.parts.repository, ingested.parts.tag
    assert tag is not None, "uploaded images have a tag"
    if ingested.replaced == ingested.digest:
        return
    now = await pushing.manifest(repository, tag)
    if now is not None and sha256(now[0]) == ingested.digest:
        before = ingested.replaced and await pushing.manifest(repository, ingested.replaced)
        if before:
            await pushing.put_manifest(repository, tag, *before)
        elif not ingested.is_first:
            await pushing.delete_tag(repository, tag)
    if ingested.is_first:
        await pushing.delete_manifest(repository, ingested.digest)


def _resolved(registry: str, chosen: Chosen, place: Place) -> ResolvedImage:
    config = chosen.config
    return ResolvedImage(
        parts=ReferenceParts(
            registry=registry, repository=place.repository, tag=place.tag, digest=chosen.digest
        ),
        digest=chosen.digest,
        platform=chosen.platform,
        size_bytes=chosen.size_bytes,
        config_digest=sha256(chosen.config_body),
        layers=tuple(Layer(layer.digest, layer.size_bytes, "") for _, layer in chosen.layers),
        labels=config.labels,
        env=config.env,
        needs=requirements.read_needs(config),
        has_healthcheck=config.has_healthcheck,
        command=config.command,
        user=config.user,
        annotations=_annotations(chosen.manifest),
    )


def _annotations(manifest: bytes) -> Mapping[str, str]:
    document = manifests.read_manifest(manifest)
    return document.annotations if isinstance(document, manifests.Manifest) else {}


def _softened(finding: Finding) -> Finding:
    """An archive that is whole is taken in, whatever its image lacks to be run as it is."""
    if finding.severity is Severity.ERROR:
        return finding.model_copy(update={"severity": Severity.WARNING})
    return finding
