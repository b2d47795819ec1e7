"""How an agent notices what happens on its engine, whoever caused it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import aclosing
from datetime import datetime
from typing import Any

from pipeline import tasks
from pipeline.core.counterparts import Counterparts
from pipeline.core.endings import Endings
from pipeline.core.upkeep import Upkeep
from pipeline.errors import EngineUnavailable, NotFound, StoreUnavailable, YardError
from pipeline.ports import Engine, EngineContainer
from pipeline.rules import launching, observation
from schemas.container import Container, Desired
from schemas.states import ContainerStatus as Status

log = logging.getLogger(__name__)

TELLING = frozenset({"die", "oom", "start", "destroy", "pause", "unpause", "health_status"})
RECONNECT_S, LONGEST_RECONNECT_S = 0.25, 4.0
AT_ONCE = 8
"""Containers that are compared side by side: one that takes its grace to stop holds up no other."""


class Watching:
    """Events say when to look, reconciliation looks at everything; neither alone is trusted."""

    def __init__(
        self, engine: Engine, counterparts: Counterparts, endings: Endings, upkeep: Upkeep
    ) -> None:
        self._engine = engine
        self._counterparts = counterparts
        self._endings = endings
        self._upkeep = upkeep
        self._records = counterparts.records
        self._site = counterparts.site
        self._since: datetime | None = None

    async def watch(self) -> None:
        """Follow the engine's events for ever; after a cut, resume where they stopped."""
        now = asyncio.get_running_loop().time
        pause_s = RECONNECT_S
        while True:
            began = now()
            try:
                await self._follow()
            except* YardError as cut:
                log.warning("the engine's events were cut, reconnecting: %s", cut.exceptions[0])
            # An engine that is away is asked less and less often; reconciliation notices it first.
            stood = now() - began > LONGEST_RECONNECT_S
            pause_s = RECONNECT_S if stood else min(2 * pause_s, LONGEST_RECONNECT_S)
            await asyncio.sleep(pause_s)

    async def look(self, uuid: str) -> None:
        """Refresh one container. What cannot be looked at now is left to reconciliation."""
        try:
            await self._upkeep.refresh(uuid)
        except YardError as error:
            log.warning("could not look at container %s: %s", uuid, error)
        except Exception:
            # One container that nobody foresaw must not end the care for all others.
            log.exception("could not look at container %s", uuid)

    async def reconcile(self) -> None:
        """Compare every container of ours on the engine with the store, and mend both.

        The store decides what should be, the engine what is. Raises EngineUnavailable and
        StoreUnavailable; safe to repeat. One container that cannot be mended is logged and tried
        again the next time.
        """
        seen = await self._engine.list(self._site.labels)
        uuids = {launching.container_of(each.labels) for each in seen}
        here = await self._records.here([uuid for uuid in uuids if uuid])
        records = {record.uuid: record for record in here}
        await tasks.for_each(
            seen, lambda each: self._carefully(self._compare(each, records)), at_once=AT_ONCE
        )
        await tasks.for_each(
            here, lambda record: self._carefully(self._mend(record)), at_once=AT_ONCE
        )

    async def _follow(self) -> None:
        events = self._engine.events(since=self._since, labels=self._site.labels)
        async with asyncio.TaskGroup() as group, aclosing(events):
            async for event in events:
                self._since = event.time
                uuid = launching.container_of(event.labels)
                if uuid and event.action.split(":")[0] in TELLING:
                    group.create_task(self.look(uuid))

    async def _carefully(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except (EngineUnavailable, StoreUnavailable):
            raise
        except YardError as error:
            log.warning("a container could not be mended: %s", error)
        except Exception:
            log.exception("a container could not be mended")

    async def _mend(self, record: Container) -> None:
        if record.status in observation.OVER and record.desired is not Desired.DELETED:
            return
        # Who is at it settles it; a pull would hold us up for as long as it takes.
        if not self._counterparts.is_busy(record.uuid):
            await self._upkeep.mend(record)

    async def _compare(self, seen: EngineContainer, records: dict[str, Container]) -> None:
        uuid = launching.container_of(seen.labels)
        record = records.get(uuid or "")
        if record is None or launching.fence_of(seen) < record.fence:
            await self._discard(seen, uuid or "")
        elif record.desired is Desired.DELETED or (
            seen.running and record.desired is Desired.STOPPED
        ):
            await self._endings.enforce(record.uuid)

    async def _discard(self, seen: EngineContainer, uuid: str) -> None:
        """A leftover: its record is gone, lives on another node, or was launched anew here."""
        try:
            current = await self._records.load(uuid)
        except NotFound:
            current = None
        if current is not None and _belongs(seen, current, self._site.node):
            return  # placed here while we were looking
        log.info("removing leftover container %s", seen.name)
        await self._endings.discard(seen)


def _belongs(seen: EngineContainer, current: Container, node: str) -> bool:
    return (
        current.node == node
        and current.status is not Status.DELETED
        and launching.fence_of(seen) >= current.fence
    )
