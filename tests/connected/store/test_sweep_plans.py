"""What is done every few seconds reads what it needs, however much there is."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from pipeline.bootstrap.control_plane import Services as Opened
from pipeline.bootstrap.control_plane import open_services
from pipeline.settings import Settings
from pipeline.stack.pieces.mongod import MongodPiece
from pipeline.stack.pieces.nats import NatsPiece
from tests.support.systems.system import KEY
from workers.control_plane import sweeps

READS_ALL_NODES = "leases"
"""Any node may hold one that nobody needs, and there are few nodes."""

ENDLESS = "freed capacity"
"""Follows changes, and has looked for what waits whenever there was one."""


@pytest.fixture
async def opened(own_mongod: MongodPiece, own_nats: NatsPiece) -> AsyncIterator[Opened]:
    """Over a store that refuses to read a whole collection."""
    where = {"mongo_url": own_mongod.url, "nats_url": own_nats.url}
    given = Settings(encryption_keys=f"k1:{KEY}", signing_key="s" * 40, **where)  # type: ignore[arg-type]
    async with open_services(given, name="test") as services:
        await services.records.store.prepare()
        await services.bus.prepare()
        admin = services.records.store._database.client.admin
        await admin.command({"setParameter": 1, "notablescan": True})
        yield services


async def test_no_sweep_reads_a_whole_collection(opened: Opened) -> None:
    swept = [sweep for sweep in sweeps(opened) if sweep.name not in (READS_ALL_NODES, ENDLESS)]
    assert len(swept) > 10
    for sweep in swept:
        await sweep.run()
    await opened.placement.waiting.remind(opened.records.clock())
