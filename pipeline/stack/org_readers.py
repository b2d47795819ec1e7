"""The durable consumers from which orgs fetch their own past events."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.adapters.bus import Bus
from pipeline.rules import topology
from pipeline.stack.nats_access import org_reader

UNLIMITED = -1


async def prepare_readers(nats_url: str, orgs: Iterable[str]) -> None:
    """Idempotent; a reader keeps its position. The stream of events must exist."""
    async with Bus.open(nats_url, name="modelyard-stack") as bus:
        for org in orgs:
            await bus.prepare_stage(reader_plan(org))


def reader_plan(org: str) -> topology.StagePlan:
    """An org that leaves its events unread must not fill the dead letters with them."""
    return topology.StagePlan(
        durable=org_reader(org),
        stream=topology.EVENTS,
        subject=f"yard.evt.{topology.token(org)}.>",
        max_deliver=UNLIMITED,
    )
