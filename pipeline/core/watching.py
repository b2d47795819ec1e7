"""How an agent notices what happens on its engine, whoever caused it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from pipeline.core.launches import Launches
from pipeline.core.node_records import NodeRecords
from pipeline.errors import EngineUnavailable, Fenced, NotFound, YardError
from pipeline.ports import Engine, EngineContainer
from pipeline.rules import launching, observation
from schemas.container import Container, Desired

log = logging.getLogger(__name__)

TELLING = frozenset({"die", "oom", "start", "destroy", "pause", "unpause", "health_status"})
RECONNECT_S = 0.5


class Watching:
    """Events say when to look, reconciliation looks at everything; neither alone is trusted.

    Followers are told of every container that was looked at: restart timers, probes.
    """

    def __init__(
        self,
        engine: Engine,
        launches: Launches,
        records: NodeRecords,
        followers: Sequence[Callable[[Container], None]],
        *,
        site: launching.Site,
    ) -> None:
        self._engine = engine
        self._launches = launches
        self._followers = followers
        self._records = records
        self._site = site
        self._since: datetime | None = None

    async def watch(self) -> None:
        """Follow the engine's events for ever; after a cut, resume where they stopped."""
        while True:
            try:
                async with asyncio.TaskGroup() as group:
                    async for event in self._engine.events(
                        since=self._since, labels=self._site.labels
                    ):
                        self._since = event.time
                        uuid = launching.container_of(event.labels)
                        if uuid and event.action.split(":")[0] in TELLING:
                            group.create_task(self.look(uuid))
            except* EngineUnavailable:
                log.warning("the engine's event stream was cut; reconnecting")
            await asyncio.sleep(RECONNECT_S)

    async def look(self, uuid: str) -> None:
        """Refresh one container. What cannot be looked at now is left to reconciliation."""
        try:
            container = await self._launches.refresh(uuid)
        except YardError as error:
            log.warning("could not look at container %s: %s", uuid, error)
            return
        if container is not None:
            for follow in self._followers:
                follow(container)

    async def reconcile(self) -> None:
        """Compare every container of ours on the engine with the store, and mend both.

        The store decides what should be, the engine what is. Raises EngineUnavailable and
        StoreUnavailable; safe to repeat.
        """
        seen = await self._engine.list(self._site.labels)
        records = {record.uuid: record for record in await self._records.here()}
        for container in seen:
            await self._compare(container, records)
        for uuid, record in records.items():
            if record.status not in observation.OVER or record.desired is Desired.DELETED:
                await self.look(uuid)

    async def _compare(self, seen: EngineContainer, records: dict[str, Container]) -> None:
        uuid = launching.container_of(seen.labels)
        record = records.get(uuid or "")
        if record is None or launching.fence_of(seen) < record.fence:
            await self._discard(seen, record)
        elif record.desired is Desired.DELETED or (
            seen.running and record.desired is Desired.STOPPED
        ):
            await self._launches.enforce(record.uuid)

    async def _discard(self, seen: EngineContainer, record: Container | None) -> None:
        """A leftover: its record is gone, lives on another node, or was launched anew here."""
        uuid = launching.container_of(seen.labels)
        try:
            current = await self._records.load(uuid or "")
        except NotFound:
            current = None
        if current is not None and current.node == self._site.node and record is None:
            return  # placed here while we were looking
        log.info("removing leftover container %s", seen.name)
        try:
            await self._launches.discard(seen)
        except Fenced as error:
            log.info("leftover %s stays: %s", seen.name, error)
