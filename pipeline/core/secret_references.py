"""What refers to a registry secret and so keeps it from being deleted: a new kind is a new row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pipeline.adapters.store import Store
from schemas.base import Record
from schemas.image import Image
from schemas.registry import Registry
from schemas.states import ImageStatus


@dataclass(frozen=True, slots=True)
class Referrer:
    """Records of `kind` that match `living` hold the uuid of a secret in `field`."""

    kind: type[Record]
    field: str
    living: Mapping[str, Any]


REFERRERS: Final = (
    Referrer(Image, "secret", {"status": {"$ne": ImageStatus.DELETED.value}}),
    Referrer(Registry, "container_registry_secret", {"deleted": False}),
)


async def count(store: Store, org: str, secret: str) -> int:
    counts = [
        await store.count(each.kind, org=org, where={each.field: secret, **each.living})
        for each in REFERRERS
    ]
    return sum(counts)
