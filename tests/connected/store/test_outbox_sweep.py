"""What the sweep makes up for: crashes, and brokers that were away."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from pipeline.adapters.bus.client import Bus
from pipeline.adapters.store.store import KINDS, Store
from pipeline.records import messages as module
from pipeline.records.messages import Outbox
from pipeline.stack.pieces.nats import NatsPiece
from schemas.container import Container
from tests.support.outboxes import LATER, published, told, waiting, with_outbox
from tests.support.records import AT, container, image


async def test_the_sweep_leaves_young_messages_to_their_writer(store: Store, bus: Bus) -> None:
    mine = await with_outbox(store, "one")
    async with Outbox(store, bus) as outbox:
        assert await outbox.sweep(KINDS, AT) == 0
    assert await waiting(store, mine) == ["one"]


async def test_the_sweep_empties_a_long_backlog_of_every_kind(
    store: Store, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SWEPT_AT_ONCE", 4)
    for _ in range(10):
        await with_outbox(store, "one", "two")
    box = container()
    box.outbox = told(box, "three")
    await store.insert(box)
    async with Outbox(store, bus) as outbox:
        assert await outbox.sweep(KINDS, LATER) == 11
        assert await outbox.sweep(KINDS, LATER) == 0
    assert sorted(await published(bus)) == ["one"] * 10 + ["three"] + ["two"] * 10
    assert await waiting(store, box) == []
    assert await store.unsent(Container, before=LATER, limit=1) == []


async def test_sweeps_of_several_processes_publish_once(store: Store, bus: Bus) -> None:
    for _ in range(10):
        await with_outbox(store, "one")
    async with Outbox(store, bus) as here, Outbox(store, bus) as there:
        await asyncio.gather(here.sweep(KINDS, LATER), there.sweep(KINDS, LATER))
    assert await published(bus) == ["one"] * 10


# --- kill -9 ----------------------------------------------------------------------------------

DYING = """
    import asyncio, os, signal, sys
    from pipeline.adapters.bus.client import Bus
    from pipeline.adapters.store.store import Store
    from pipeline.records.messages import Outbox
    from schemas.image import Image

    mongo_url, database, nats_url, record, when = sys.argv[1:]

    class Dying:
        def __init__(self, bus): self.bus = bus
        async def publish(self, message, *, timeout_s=5):
            if when == "before the publish":
                os.kill(os.getpid(), signal.SIGKILL)
            await self.bus.publish(message)
            os.kill(os.getpid(), signal.SIGKILL)

    async def main():
        async with Store.open(mongo_url, database) as store, Bus.open(nats_url, name="x") as bus:
            image = await store.insert(Image.model_validate_json(record))
            await Outbox(store, Dying(bus)).send(image)

    asyncio.run(main())
"""


@pytest.mark.parametrize("when", ["before the publish", "before the mark"])
async def test_kill_9_between_store_and_mark_publishes_exactly_once(
    store: Store, bus: Bus, own_nats: NatsPiece, mongo_url: str, when: str
) -> None:
    mine = image()
    mine.outbox = told(mine, "one")
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-c", textwrap.dedent(DYING), mongo_url, store._database.name],
        *[own_nats.url, mine.model_dump_json(), when],
        cwd=Path(__file__).parents[3],
        env=os.environ | {"PYTHONPATH": "."},
    )
    assert await process.wait() == -signal.SIGKILL
    assert await waiting(store, mine) == ["one"]
    async with Outbox(store, bus) as outbox:
        assert await outbox.sweep(KINDS, LATER) == 1
    assert await published(bus) == ["one"]
    assert await waiting(store, mine) == []
