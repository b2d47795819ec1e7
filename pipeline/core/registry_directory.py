"""Which entry of the registry directory an image's reference leads to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.rules.references import Reference
from schemas.registry import Registry

if TYPE_CHECKING:
    from pipeline.adapters.store import Store

LOOKED_AT = 100
"""Entries of one host; they differ in their prefixes."""


async def secret_for(store: Store, org: str, reference: Reference) -> str | None:
    """The secret of the organisation's entry for this host; None when no entry names one.

    Of several, the one whose image prefix fits best, then the oldest.
    """
    found = await store.find(
        Registry,
        org=org,
        where={
            "host": reference.registry,
            "deleted": False,
            "container_registry_secret": {"$gt": ""},
        },
        sort=[("created_at", 1), ("_id", 1)],
        limit=LOOKED_AT,
    )
    best = max(found, key=lambda entry: _fit(entry, reference), default=None)
    return best.container_registry_secret if best else None


def _fit(entry: Registry, reference: Reference) -> int:
    """Length of the matching prefix; less than none when the entry is for other images."""
    prefix = entry.container_registry_image_prefix.strip("/")
    image = f"{reference.registry}/{reference.repository}/"
    if not prefix:
        return 0
    return len(prefix) if image.startswith(f"{prefix}/") else -1
