"""The last checks of each registry."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

from pipeline.errors import AlreadyExists, NotFound
from schemas.registry import Registry, RegistryHealth, RegistryHistory

if TYPE_CHECKING:
    from pipeline.adapters.store import Store

KEPT: Final = 100


async def read(store: Store, org: str, uuid: str) -> list[RegistryHealth]:
    """Newest first; none before the first check."""
    try:
        history = await store.get(RegistryHistory, uuid, org=org)
    except NotFound:
        return []
    return history.checks[::-1]


async def add(store: Store, registry: Registry, health: RegistryHealth, *, at: datetime) -> None:
    """The oldest make room."""
    if await _push(store, registry, health):
        return
    history = RegistryHistory(
        uuid=registry.uuid, org=registry.org, created_at=at, updated_at=at, checks=[health]
    )
    try:
        await store.insert(history)
    except AlreadyExists:
        # Somebody else made it meanwhile.
        await _push(store, registry, health)


async def _push(store: Store, registry: Registry, health: RegistryHealth) -> bool:
    newest = {"$each": [health.model_dump()], "$slice": -KEPT}
    updated = await store.update(
        RegistryHistory,
        registry.uuid,
        org=registry.org,
        guard={},
        update={"$push": {"checks": newest}},
    )
    return updated is not None
