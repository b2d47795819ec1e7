"""What a lost, frozen or restarted engine looks like, and that the same client goes on after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.adapters.engine.docker import DockerEngine
from pipeline.adapters.engine.threads import Timeouts
from pipeline.errors import EngineUnavailable, PullFailed
from pipeline.ports import EngineEvent, LaunchPlan
from pipeline.stack.pieces.dockerd import DockerdPiece
from tests.support.archives.image_delivery import load
from tests.support.archives.images import busybox_image
from tests.support.engines.engine import IMAGE, events_until
from tests.support.registries.gated_registry import GatedRegistry

LABELS = {"test.run": "faults"}
PLAN = LaunchPlan(name="t-faults", image=IMAGE, labels=LABELS)


@pytest.fixture
async def engine(own_dockerd: DockerdPiece) -> AsyncIterator[DockerEngine]:
    await asyncio.to_thread(load, busybox_image(), own_dockerd.host, IMAGE)
    async with DockerEngine.open(own_dockerd.host, timeouts=Timeouts(call_s=10)) as engine:
        yield engine


async def no_progress(done: int, total: int | None) -> None:
    return


async def test_a_killed_engine_ends_every_stream_and_the_client_survives_its_restart(
    own_dockerd: DockerdPiece, engine: DockerEngine
) -> None:
    id = await engine.create(PLAN)
    await engine.start(id)
    lines = engine.logs(id, tail=None, since=None, follow=True)
    assert (await anext(lines)).text.startswith("listening")
    events = engine.events(since=datetime.now(UTC) - timedelta(minutes=1), labels=LABELS)
    assert (await anext(events)).action == "create"
    async with GatedRegistry.open(busybox_image(random_layers=[1 << 20])) as registry:
        pull = asyncio.ensure_future(
            engine.pull(
                registry.reference,
                credentials=None,
                platform=None,
                stall_s=30,
                progress=no_progress,
            )
        )
        await registry.reached.wait()
        await own_dockerd.kill()
        async with asyncio.timeout(10):
            for stream in (drain(lines), drain(events), pull, engine.ping()):
                with pytest.raises(EngineUnavailable):
                    await stream

        await own_dockerd.start()
        assert await engine.image_id(registry.reference) is None
    found = await engine.inspect(id)
    assert found is not None
    assert found.state == "exited"
    await engine.start(id)
    await engine.remove(id)


async def drain(stream: AsyncIterator[object]) -> None:
    async for _ in stream:
        continue


async def test_what_a_reader_missed_is_replayed(
    own_dockerd: DockerdPiece, engine: DockerEngine
) -> None:
    since = datetime.now(UTC)
    id = await engine.create(PLAN)
    first = (await events_until(engine, "faults", since, lambda _: True))[0]
    await engine.start(id)
    await engine.remove(id)

    def is_last(event: EngineEvent) -> bool:
        return event.action == "destroy"

    replayed = await events_until(engine, "faults", first.time, is_last)
    assert replayed[0] == first
    assert [event.action for event in replayed[1:]] == ["start", "kill", "die", "destroy"]


async def test_a_frozen_engine_is_unavailable_in_time_and_can_be_left(
    own_dockerd: DockerdPiece,
) -> None:
    own_dockerd.pause()
    try:
        timeouts = Timeouts(connect_s=0.3, call_s=0.3)
        async with asyncio.timeout(30):
            async with DockerEngine.open(own_dockerd.host, timeouts=timeouts) as engine:
                with pytest.raises(EngineUnavailable):
                    await engine.ping()
                with pytest.raises((EngineUnavailable, PullFailed)):
                    await engine.pull(
                        "r/a:1", credentials=None, platform=None, stall_s=1, progress=no_progress
                    )
                reader = asyncio.ensure_future(anext(engine.events(since=None, labels={})))
                reader.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await reader
    finally:
        own_dockerd.resume()
