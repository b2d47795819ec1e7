"""Those that wait for a node: the first of each organisation, for everybody who plans."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from pipeline import concurrency
from pipeline.adapters.store import bulk
from pipeline.adapters.store.store import EVERY_ORG, Store
from pipeline.placement.turns import Turn
from pipeline.records.kernel import Clock
from schemas.container import Container, Desired
from schemas.states import ContainerStatus as Status

AGE_S: Final = 0.5
"""For so long nobody looks again who waits."""
MOST: Final = 200
"""Of all organisations together, and at least `LEAST` of each."""
LEAST: Final = 2
WAITING: Final[dict[str, Any]] = {
    "status": Status.REQUESTED.value,
    "desired": Desired.RUNNING.value,
    "queue_position": {"$gt": 0},
}
"""Those for which somebody has looked and found no room."""
FIRST: Final = (("spec.priority", -1), ("status_since", 1))


class Line:
    """Shared by all batches of one process; who waits is read again now and then."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._first: list[Container] = []
        self._read_at: datetime | None = None

    async def first(self) -> list[Container]:
        """Not older than `AGE_S`; some may be placed by now. Raises StoreUnavailable."""
        now = self._clock()
        if self._read_at is None or not (
            timedelta(0) <= now - self._read_at < timedelta(seconds=AGE_S)
        ):
            self._first, self._read_at = await self._read(), now
        return self._first

    def look_again(self) -> None:
        """Somebody of it has been placed, or has come."""
        self._read_at = None

    async def position(self, container: Container) -> int:
        """1 is the first: by priority, then by age. That organisations take turns is left out."""
        priority = container.spec.priority
        same = {"spec.priority": priority, "status_since": {"$lt": container.status_since}}
        earlier = {"$or": [{"spec.priority": {"$gt": priority}}, same]}
        where = {**WAITING, **earlier, "_id": {"$ne": container.uuid}}
        return 1 + await self._store.count(Container, org=EVERY_ORG, where=where)

    async def _read(self) -> list[Container]:
        orgs = await bulk.distinct(self._store, Container, "org", org=EVERY_ORG, where=WAITING)
        each = max(MOST // max(len(orgs), 1), LEAST)
        found = await concurrency.gather_or_cancel(
            *(
                self._store.find(Container, org=org, where=WAITING, sort=FIRST, limit=each)
                for org in sorted(orgs)
            )
        )
        return [container for of_org in found for container in of_org]


def turn_of(container: Container, gpus: int) -> Turn:
    since = container.status_since or container.created_at
    return Turn(container.uuid, container.org, container.spec.priority, since, gpus)
