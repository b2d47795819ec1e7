"""Taking messages from a durable on a real broker."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from pipeline import topology
from pipeline.adapters.bus.client import Bus
from pipeline.errors import BusUnavailable
from pipeline.stack.pieces.nats import NatsPiece
from tests.support.events import remove_stage
from tests.support.waiting import eventually


async def test_a_pulled_message_that_was_not_taken_can_be_handed_back(bus: Bus) -> None:
    plan = replace(topology.IMAGE_DELETE, ack_wait_s=30)
    for number in range(3):
        await bus.publish_raw(topology.command("acme", "image", "delete"), b"", {"n": str(number)})
    async with bus.pull(plan) as pull:
        first = await pull.next(3)
        assert first is not None
        await eventually(lambda: _are_delivered(bus, plan, 3))
        await first.ack()
    left = pull.left_over()
    assert [message.headers and message.headers["n"] for message in left] == ["1", "2"]
    for message in left:
        await message.nak()
    async with bus.pull(plan) as pull:
        again = await pull.next(1)
        assert again is not None
        assert again.metadata.num_delivered == 2


async def test_a_pull_says_that_its_durable_is_missing_and_when_it_goes(bus: Bus) -> None:
    plan = topology.IMAGE_DELETE
    async with bus.pull(plan) as pull:
        waiting = asyncio.ensure_future(pull.next(1))
        await eventually(lambda: _is_asked(bus, plan))
        await remove_stage(bus, plan)
        with pytest.raises(BusUnavailable) as caught:
            await waiting
        assert caught.value.facts["missing"] == plan.durable
        with pytest.raises(BusUnavailable) as caught:
            await pull.next(1)
        assert caught.value.facts["missing"] == plan.durable


async def test_a_waiting_pull_survives_a_restart_of_the_broker(
    bus: Bus, own_nats: NatsPiece
) -> None:
    plan = topology.IMAGE_DELETE
    async with bus.pull(plan) as pull:
        waiting = asyncio.ensure_future(pull.next(1))
        await own_nats.kill()
        await own_nats.start()
        await bus.publish_raw(topology.command("acme", "image", "delete"), b"now", {})
        async with asyncio.timeout(30):
            message = await waiting
        assert message is not None
        assert message.data == b"now"


async def _is_asked(bus: Bus, plan: topology.StagePlan) -> bool:
    info = await bus.client.jetstream().consumer_info(plan.stream.name, plan.durable)
    return bool(info.num_waiting)


async def _are_delivered(bus: Bus, plan: topology.StagePlan, count: int) -> bool:
    info = await bus.client.jetstream().consumer_info(plan.stream.name, plan.durable)
    return bool(info.num_ack_pending == count)
