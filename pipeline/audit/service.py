"""The audit trail: read from the events, which the writes that they are about have stored.

No write of its own could be lost between a change and its entry: the event is in the record by the
change's own write, and in the stream until it is in the trail. An entry is made once, however often
its event is read.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any, Final

from pipeline import topology
from pipeline.adapters.bus.client import Bus
from pipeline.adapters.bus.reading import StoredEvent
from pipeline.adapters.store.audit_log import AuditLog, Read
from pipeline.errors import InvalidInput
from pipeline.records.idempotency import id_for
from pipeline.records.kernel import Records
from pipeline.records.queries import Page, page
from pipeline.settings import Settings
from schemas.access import AuditEntry, Principal

PEOPLE: Final = ("user:", "token:", "queue:")
"""How actors begin that are no part of the system."""
QUEUE: Final = "nats"
"""Where commands come from that came through no door."""
PROGRESS: Final = "progressed"
"""Ends kinds that only tell how far something is."""
NAME_MAX: Final = 255


class AuditTrail:
    """Safe to run in several processes at once."""

    def __init__(self, records: Records, bus: Bus, settings: Settings) -> None:
        self._records = records
        self._bus = bus
        self._log = AuditLog(records.store)
        self._kept = timedelta(days=settings.audit_max_age_days)

    async def sweep(self) -> None:
        """Take in what has happened since the last time. Raises BusUnavailable, StoreUnavailable.

        Of a stream that was made anew everything is new.
        """
        at = await self._bus.position()
        known = await self._log.read_up_to()
        after = known.sequence if known and known.epoch == at.epoch else 0
        more = at.last > after
        while more:
            batch = await self._bus.read_batch(
                topology.EVENTS.name, after=after, subject=topology.events_of(None)
            )
            if not batch.messages:
                return
            await self._log.add([entry for each in batch.messages if (entry := entry_of(each))])
            after, more = batch.messages[-1].sequence, batch.more
            read = Read(at.epoch, after)
            if not await self._log.advance(known, read):
                return
            known = read

    async def purge(self) -> None:
        """Forget what is older than the setting says."""
        while await self._log.delete_older(self._records.clock() - self._kept):
            pass

    async def list(
        self,
        caller: Principal,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 50,
        cursor: str | None = None,
        **equals: str | None,
    ) -> Page[AuditEntry]:
        """Of the caller's organisation, newest first.

        `equals` names fields of an entry and their values; None leaves one out. `until` is not
        included. Raises InvalidInput as `page`.
        """
        where: dict[str, Any] = {name: each for name, each in equals.items() if each is not None}
        bounds = {"$gte": since, "$lt": until}
        if given := {sign: each for sign, each in bounds.items() if each is not None}:
            where["created_at"] = given
        return await page(
            self._records.store, AuditEntry, org=caller.org, where=where, limit=limit, cursor=cursor
        )


def entry_of(event: StoredEvent) -> AuditEntry | None:
    """None for what nobody did: the system's own work, and mere progress."""
    headers = event.attributes()
    actor = headers.get("ce-actor", "")
    origin = QUEUE if actor.startswith("queue:") else headers.get("ce-origin")
    id = headers.get("ce-id")
    if not actor.startswith(PEOPLE) or origin is None or id is None:
        return None
    try:
        subject = topology.parse_event(event.subject)
    except InvalidInput:
        return None
    if subject.kind.endswith(PROGRESS):
        return None
    at = event.happened_at()
    return AuditEntry(
        uuid=id_for(subject.org, AuditEntry.resource, id),
        org=subject.org,
        created_at=at,
        updated_at=at,
        cause=headers.get("ce-causationid"),
        actor=actor,
        origin=origin,
        action=f"{subject.resource}.{subject.kind}",
        target=subject.id,
        name=_name(event.data),
        event=id,
    )


def _name(data: bytes) -> str | None:
    """Of the record. Nothing else of what an event tells is kept."""
    try:
        told = json.loads(data or b"{}")
    except ValueError:
        return None
    name = told.get("name") if isinstance(told, dict) else None
    return name[:NAME_MAX] if isinstance(name, str) else None
