"""What the catalogue requires of whatever is made of an image, and who uses its entries."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from pipeline.adapters.store.store import EVERY_ORG, Org, Store
from pipeline.catalog.requirements import Gate, gate_of
from pipeline.catalog.rows import CatalogRows
from pipeline.oci import references
from pipeline.oci.references import Reference
from schemas.container import Container
from schemas.deployment import Deployment
from schemas.image import CLIENTS_OWN, Image
from schemas.registries.catalog import CatalogEntry
from schemas.states import ContainerStatus, DeploymentStatus, ImageStatus

NAMED: Final = 5
"""Users of each kind that are named."""
_NOT_RUNNING: Final = [
    status.value
    for status in (ContainerStatus.STOPPED, ContainerStatus.FAILED, ContainerStatus.DELETED)
]
_UNDELETED: Final[Mapping[str, Any]] = {"deleted": False}


class Gates:
    """Asks the entries of the organisation each time: nothing of them is kept elsewhere."""

    def __init__(self, store: Store, rows: CatalogRows) -> None:
        self._store = store
        self.rows = rows

    async def of(self, image: Image) -> Gate | None:
        """None for an image that no entry of its organisation describes."""
        return (await self.of_all([image], org=image.org)).get(image.uuid)

    async def of_all(self, images: Collection[Image], *, org: Org = EVERY_ORG) -> dict[str, Gate]:
        """By uuid of the image."""
        wanted = {reference_of(image) for image in images}
        if not wanted:
            return {}
        where = {"reference": {"$in": sorted(wanted)}, **_UNDELETED}
        found = await self._store.find(CatalogEntry, org=org, where=where, sort=())
        if not found:
            return {}
        rows = await self.rows.snapshot()
        entries: dict[tuple[str, str], list[CatalogEntry]] = {}
        for entry in found:
            entries.setdefault((entry.org, str(entry.reference)), []).append(entry)
        described = {image.uuid: entries.get((image.org, reference_of(image))) for image in images}
        return {uuid: gate_of(theirs, rows) for uuid, theirs in described.items() if theirs}

    async def of_entry(self, entry: CatalogEntry) -> tuple[Gate, Image | None]:
        """Of one entry alone, and the Image that it stands for once that is known to be good."""
        gate = gate_of([entry], await self.rows.snapshot())
        image = await self._store.find_by_id(Image, entry.image, org=entry.org)
        return gate, image if image and image.status is ImageStatus.READY else None

    async def of_id(self, org: str, uuid: str) -> Gate | None:
        """As `of`, of an image that may be gone."""
        image = await self._store.find_by_id(Image, uuid, org=org)
        return None if image is None else await self.of(image)

    async def use(self, org: str, gate: Gate | None) -> bool:
        """Mark its entries as used, after what uses them was inserted: who deletes one of them has
        either found the user or fails by the mark. False where one was deleted before that."""
        used = {"$inc": {"times_used": 1}}
        marked = [
            await self._store.update(CatalogEntry, str(pk), org=org, guard=_UNDELETED, update=used)
            for pk in (gate.entries if gate else ())
        ]
        return all(entry is not None for entry in marked)


def reference_of(image: Image) -> str:
    """Whole, as entries keep it."""
    parts = image.parts
    return str(Reference(parts.registry, parts.repository, parts.tag, parts.digest))


async def secret_of(store: Store, image: Image) -> str | None:
    """What opens the registry for pulls of an image: its own secret, else that of the oldest entry
    that describes it."""
    if image.secret is not None:
        return image.secret
    where = {"reference": reference_of(image), "secret": {"$gt": ""}, **_UNDELETED}
    found = await store.find(CatalogEntry, org=image.org, where=where, sort=[("pk", 1)], limit=1)
    return found[0].secret if found else None


async def users_of(store: Store, entry: CatalogEntry) -> list[str]:
    """What runs, deployments and imported containers of the image of an entry, in words."""
    images = await store.find(Image, org=entry.org, where=_images_of(entry), sort=())
    ids = {"$in": [image.uuid for image in images]}
    running = {"image": ids, "status": {"$nin": _NOT_RUNNING}}
    made_of_it = {"template.spec.image": ids, "status": {"$ne": DeploymentStatus.DELETED.value}}
    containers = await store.find(Container, org=entry.org, where=running, limit=NAMED)
    deployments = await store.find(Deployment, org=entry.org, where=made_of_it, limit=NAMED)
    imported = [image for image in images if CLIENTS_OWN in image.annotations]
    return [
        *(f"container {each.name}" for each in containers),
        *(f"deployment {each.name}" for each in deployments),
        *(f"imported container {each.name}" for each in imported[:NAMED]),
    ]


def _images_of(entry: CatalogEntry) -> dict[str, Any]:
    """The query for the images that an entry stands for: by its key, or by the reference."""
    by: list[dict[str, Any]] = [{"catalog": entry.pk}, {"reference": entry.url}]
    if entry.reference is not None:
        parts = references.parse(entry.reference).asdict()
        by.append({f"parts.{name}": value for name, value in parts.items()})
    return {"$or": by, "status": {"$ne": ImageStatus.DELETED.value}}
