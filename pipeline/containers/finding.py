"""Containers by what people and programs know of them: names, hash, id of the engine, node."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.adapters.store.store import Store
from pipeline.records.queries import Page, page
from schemas.access import Principal
from schemas.container import Container
from schemas.states import ContainerStatus as Status


@dataclass(frozen=True, slots=True)
class ContainerSearch:
    """What containers to look for, all of it together; whatever is empty matches all."""

    node: str = ""
    engine_id: str = ""
    names: Collection[str] = ()
    """Its name or an alias is one of these, exactly."""
    spec_hash: str | None = None
    statuses: Collection[Status] = ()
    """Empty: all but deleted ones."""

    def where(self) -> dict[str, Any]:
        status = {"$in": [each.value for each in self.statuses]}
        found: dict[str, Any] = {
            "status": status if self.statuses else {"$ne": Status.DELETED.value}
        }
        for field, value in (("node", self.node), ("engine_id", self.engine_id)):
            if value:
                found[field] = value
        if self.spec_hash is not None:
            found["spec_hash"] = self.spec_hash
        if self.names:
            named = {"$in": list(self.names)}
            also = {"spec.aliases": named, "spec.aliases.0": {"$exists": True}}
            found["$or"] = [{"name": named}, also]
        return found


class ContainerFinder:
    """Acts for the organisation of its caller and sees nothing of others."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def search(
        self,
        caller: Principal,
        wanted: ContainerSearch,
        *,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Container]:
        """Newest first. Raises InvalidInput for limit and cursor."""
        return await page(
            self._store, Container, org=caller.org, where=wanted.where(), limit=limit, cursor=cursor
        )

    async def called(self, caller: Principal, names: Collection[str]) -> Sequence[Container]:
        """All that are not deleted yet and have one of these names, or aliases, the newest first;
        also one that is to replace another."""
        where = ContainerSearch(names=names).where()
        return await self._store.find(Container, org=caller.org, where=where)

    async def recall(self, caller: Principal, uuid: str) -> Container | None:
        """Also one that is deleted."""
        return await self._store.find_by_id(Container, uuid, org=caller.org)
