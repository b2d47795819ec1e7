"""Records with messages, and what became of those."""

from __future__ import annotations

from pipeline import topology
from pipeline.adapters.bus.client import Bus
from pipeline.adapters.store.store import Store
from schemas.base import Record
from schemas.image import Image
from schemas.message import Message
from tests.support.events import stored_events
from tests.support.records import AT, ORG, after, image

LATER = after(60)


def told(record: Record, *kinds: str) -> list[Message]:
    """Events about a record, numbered as a change would number them."""
    return [
        Message(
            id=f"{record.uuid}.{kind}",
            subject=topology.event(ORG, record.resource, record.uuid, kind),
            type=kind,
            time=AT,
            data={"id": record.uuid},
        )
        for kind in kinds
    ]


async def with_outbox(store: Store, *kinds: str) -> Image:
    mine = image()
    mine.outbox = told(mine, *kinds)
    return await store.insert(mine)


async def published(bus: Bus) -> list[str]:
    return [event.subject.rpartition(".")[2] async for event in stored_events(bus, None)]


async def waiting(store: Store, record: Record) -> list[str]:
    found = await store.get(type(record), record.uuid, org=record.org)
    return [message.type for message in found.outbox]
