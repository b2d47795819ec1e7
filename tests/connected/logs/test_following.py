"""From what a container writes to what is kept of it, over restarts and cuts in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pipeline.logs.chunks import LogChunk, StreamName
from pipeline.logs.service import LogFilter, StoredLogs
from schemas.container import Container
from tests.support.engines.engine_world import Made
from tests.support.engines.node_rig import NodeRig, agent_of
from tests.support.waiting import eventually


async def kept(rig: NodeRig, container: Container, stream: StreamName | None = None) -> str:
    """All of it, oldest first."""
    logs, which = StoredLogs(rig.store), LogFilter(container=container.uuid, stream=stream)
    chunks: list[LogChunk] = []
    cursor = None
    while True:
        page = await logs.list(rig.caller, which, limit=7, cursor=cursor)
        chunks += page.items
        cursor = page.next
        if cursor is None:
            return "".join(chunk.text for chunk in reversed(chunks))


async def until_kept(rig: NodeRig, container: Container, text: str) -> None:
    async def holds() -> bool:
        return await kept(rig, container) == text

    try:
        await eventually(holds)
    except AssertionError:
        assert await kept(rig, container) == text


@asynccontextmanager
async def following(rig: NodeRig) -> AsyncIterator[None]:
    """An agent follows the output of its containers meanwhile."""
    running = asyncio.create_task(rig.agent.output.run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait([running])


async def is_heard(made: Made) -> None:
    async def holds() -> bool:
        return bool(made.listeners)

    await eventually(holds)


async def test_output_is_kept_by_stream_with_the_engines_time(rig: NodeRig) -> None:
    container = await rig.up()
    made = rig.world.only()
    rig.world.write(made, "one\n", at_ns=1_800_000_000_123_456_789)
    rig.world.write(made, "oops\n", to=2, at_ns=1_800_000_000_123_456_790)
    async with following(rig):
        await until_kept(rig, container, "one\noops\n")
    page = await StoredLogs(rig.store).list(rig.caller, LogFilter(stream="stdout"))
    (chunk,) = page.items
    assert chunk.created_at == "2027-01-15T08:00:00.123456789Z"
    assert (chunk.container, chunk.engine_id, chunk.node) == (
        container.uuid,
        made.id,
        rig.agent.uuid,
    )


async def test_what_an_agent_did_not_send_the_next_one_does_and_nothing_twice(rig: NodeRig) -> None:
    container = await rig.up()
    made = rig.world.only()
    expected = ""
    for number in range(4):
        async with following(rig):
            await is_heard(made)
            for count in range(500):
                text = f"{number} {count} {'x' * 40}\n"
                rig.world.write(made, text)
                expected += text
            if number % 2:
                await until_kept(rig, container, expected)
        rig.agent = agent_of(rig, "one")
    async with following(rig):
        await until_kept(rig, container, expected)


async def test_a_cut_at_the_engine_leaves_no_gap_and_nothing_twice(rig: NodeRig) -> None:
    container = await rig.up()
    made = rig.world.only()
    async with following(rig):
        for number in range(3):
            await is_heard(made)
            rig.world.write(made, f"before {number}\n")
            rig.world.cut_output(made)
            rig.world.write(made, f"meanwhile {number}\n")
        written = "".join(f"before {n}\nmeanwhile {n}\n" for n in range(3))
        await until_kept(rig, container, written)


async def test_while_the_broker_is_away_output_waits_within_bounds(rig: NodeRig) -> None:
    container = await rig.up()
    made = rig.world.only()
    text = "y" * 16_000
    async with following(rig):
        await is_heard(made)
        rig.kept.away = True
        for _ in range(200):
            rig.world.write(made, text)
        followed = rig.agent.output._followed[made.id]
        await eventually(lambda: followed._waiting_bytes >= 256 * 1024)
        assert len(followed.waiting) < 200
        rig.kept.away = False
        await until_kept(rig, container, text * 200)


async def test_the_last_words_are_kept_before_a_container_is_removed(rig: NodeRig) -> None:
    container = await rig.up()
    made = rig.world.only()
    async with following(rig):
        await is_heard(made)
        rig.world.write(made, "last words")
        await rig.containers.delete(rig.caller, container.uuid)
        assert not await rig.hand_over()
        assert made.id not in rig.world.containers
        assert await kept(rig, container) == "last words"


async def test_a_run_that_follows_another_goes_on_behind_it(rig: NodeRig) -> None:
    container = await rig.up()
    made = rig.world.only()
    async with rig.alive():
        await is_heard(made)
        rig.world.write(made, "first run\n")
        rig.world.die(made, 1)
        await eventually(lambda: made.starts == 2)
        await is_heard(made)
        rig.world.write(made, "second run\n")
        await until_kept(rig, container, "first run\nsecond run\n")


async def test_control_characters_and_what_is_no_unicode_do_no_harm(rig: NodeRig) -> None:
    container = await rig.up()
    rig.world.write(rig.world.only(), b"\x1b[2J\xff\xfe caf\xc3")
    rig.world.write(rig.world.only(), b"\xa9\x00\n")
    async with following(rig):
        await until_kept(rig, container, "[2J\ufffd\ufffd caf\u00e9\n")


async def test_an_agent_that_was_succeeded_adds_nothing(rig: NodeRig) -> None:
    container = await rig.up()
    made = rig.world.only()
    old = rig.agent
    async with following(rig):
        await is_heard(made)
        rig.agent = agent_of(rig, "one")
        async with following(rig):
            await eventually(lambda: len(made.listeners) == 2)
            rig.world.write(made, "once\n")
            await until_kept(rig, container, "once\n")
            await eventually(lambda: not old.output._followed[made.id].is_busy)
        assert await kept(rig, container) == "once\n"


async def test_output_of_a_container_on_another_node_is_dropped(rig: NodeRig) -> None:
    container = await rig.up()
    rig.world.write(rig.world.only(), "mine\n")
    await rig.store.update(
        Container, container.uuid, org=container.org, guard={}, update={"$set": {"node": "other"}}
    )
    async with following(rig):
        await eventually(lambda: len(rig.kept.messages) == 2)
    assert await kept(rig, container) == ""
