"""The image of a run: one that is known, or one that its registry has."""

from __future__ import annotations

from functools import partial

from api.container_svc.answers import unsuccessful
from api.container_svc.run_request import CUDA, RunRequest
from api.container_svc.waiting import Waiting
from pipeline.errors import CannotPlace, InvalidInput, InvalidReference, NotFound
from pipeline.images import lookup
from pipeline.oci import dotted_versions, references
from pipeline.records.idempotency import fingerprint, id_for
from schemas.image import Image, ImageSpec
from schemas.node import Node
from schemas.states import ImageStatus, NodeStatus

LATEST = ":latest"
_SETTLED = frozenset({ImageStatus.READY, ImageStatus.FAILED, ImageStatus.DELETED})


async def ready(waiting: Waiting, wanted: RunRequest, node: Node | None) -> Image:
    """Known ones are taken as they are, any other is proved first.

    Raises InvalidInput, what makes a pull impossible, and Timeout.
    """
    reference = await _chosen(waiting, wanted, node)
    secret = await _secret(waiting, wanted.registrySecret)
    known = await _known(waiting, reference, secret)
    if known is not None and known.status is ImageStatus.READY:
        return known
    image = await _proved(waiting, known, reference, secret)
    if image.status is ImageStatus.READY:
        return image
    await waiting.services.images.service.withdraw(waiting.caller, image.uuid)
    if image.status not in _SETTLED and image.last_failure is None:
        raise waiting.over("run", image.uuid)
    first = next(iter(image.findings), None)
    raise unsuccessful(first.code if first else None, image.reason or "The image is gone.")


async def _proved(
    waiting: Waiting, known: Image | None, reference: str, secret: str | None
) -> Image:
    images, caller = waiting.services.images.service, waiting.caller
    if known is not None and known.status in (ImageStatus.PENDING, ImageStatus.VALIDATING):
        uuid, ask = known.uuid, partial(images.get, caller, known.uuid)
    else:
        spec = ImageSpec(reference=reference, secret=secret)
        key = f"run {fingerprint(spec)}"
        recalled = await images.recall(caller, id_for(caller.org, Image.resource, key))
        if recalled is not None and recalled.status in (ImageStatus.DELETED, ImageStatus.FAILED):
            await images.withdraw(caller, recalled.uuid)
            key = f"{key} {recalled.revision}"
        uuid = id_for(caller.org, Image.resource, key)
        ask = partial(images.submit, caller, spec, key=key)
    return await waiting.settled(
        Image,
        uuid,
        ask=ask,
        load=partial(images.get, caller, uuid),
        is_settled=lambda image: image.status in _SETTLED or image.last_failure is not None,
    )


async def _known(waiting: Waiting, reference: str, secret: str | None) -> Image | None:
    for name in spellings(reference):
        try:
            found = await waiting.services.images.service.find(waiting.caller, name)
        except NotFound:
            continue
        return found if secret is None or found.secret == secret else None
    return None


def spellings(reference: str) -> list[str]:
    """With and without the tag that engines add: a build may have been called either way."""
    if reference.endswith(LATEST):
        return [reference, reference.removesuffix(LATEST)]
    is_tagged = ":" in reference.rpartition("/")[2] or "@" in reference
    return [reference] if is_tagged else [reference, reference + LATEST]


async def _secret(waiting: Waiting, wanted: str) -> str | None:
    if not wanted:
        return None
    try:
        return (await waiting.services.secrets.service.get(waiting.caller, wanted)).uuid
    except NotFound as error:
        raise InvalidInput(f"registrySecret: {error.message}", field="registrySecret") from error


async def _chosen(waiting: Waiting, wanted: RunRequest, node: Node | None) -> str:
    """The reference, with the newest version of CUDA that there is in place of the variable."""
    if CUDA not in wanted.image:
        return wanted.image
    name, colon, tag = wanted.image.rpartition(":")
    if not colon or CUDA in name or "/" in tag:
        raise InvalidReference(f"{CUDA} stands in the tag of an image.", field="image")
    parts = references.parse(name)
    nodes = [node] if node else await waiting.services.placement.nodes.among([])
    supported = [
        each.inventory.cuda
        for each in nodes
        if each.inventory.cuda and each.status is NodeStatus.READY
    ]
    if not supported:
        raise CannotPlace(f"{wanted.image} asks for a GPU's driver, and no node has one.")
    most = max(supported, key=lambda version: dotted_versions.parse(version) or ())
    tags = await waiting.services.images.lookup.tags(
        waiting.caller, parts, wanted.registrySecret or None
    )
    version = lookup.newest(tags, tag, CUDA, most)
    if version is None:
        raise CannotPlace(
            f"{name} has no tag like {tag} for CUDA {most} or older, which is what the driver runs."
        )
    return f"{name}:{tag.replace(CUDA, version)}"
