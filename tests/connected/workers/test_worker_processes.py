"""Workers as processes: killed, stopped, and several at once."""

from __future__ import annotations

import asyncio
import signal

from pipeline import topology
from pipeline.adapters.bus.client import Bus
from pipeline.dead_letters.service import DeadLetters
from pipeline.stack.pieces.nats import NatsPiece
from tests.support.systems.worker_process import PLAN, worker_process
from tests.support.systems.working import command, member
from tests.support.waiting import eventually


async def test_a_message_that_kills_every_worker_becomes_a_dead_letter(
    bus: Bus, own_nats: NatsPiece
) -> None:
    letters = DeadLetters(bus)

    async def is_given_up() -> bool:
        return bool((await letters.list(member("acme"))).items)

    await bus.prepare_stage(PLAN)
    await bus.publish(command(1, die=True))
    for _ in range(PLAN.max_deliver):
        async with worker_process(own_nats.url) as worker:
            await worker.until("begun 1")
            assert await worker.ended() == -signal.SIGKILL
    async with worker_process(own_nats.url) as worker:
        await bus.publish(command(2))
        await worker.until("done 2")
        await eventually(is_given_up)
        await eventually(lambda: _is_done(bus))
    assert "begun 1" not in worker.lines
    [letter] = (await letters.list(member("acme"))).items
    assert (letter.code, letter.attempts, letter.stage) == ("worker_lost", 2, "trial")


async def test_a_stopped_worker_finishes_or_hands_back_and_exits_in_time(
    bus: Bus, own_nats: NatsPiece
) -> None:
    await bus.prepare_stage(PLAN)
    async with worker_process(own_nats.url) as worker:
        await bus.publish(command(1, sleep_s=0.5))
        await bus.publish(command(2, sleep_s=2.5))
        await worker.until("begun 1")
        await worker.until("begun 2")
        worker.process.send_signal(signal.SIGTERM)
        await worker.until("done 1")
        await bus.publish(command(3))
        assert await worker.ended() == 0
    assert "stopped" in worker.lines
    assert "done 2" not in worker.lines
    assert "begun 3" not in worker.lines
    async with worker_process(own_nats.url) as successor:
        await successor.until("begun 2")
        await successor.until("done 3")
        await successor.until("done 2")


async def test_worker_processes_share_the_work(bus: Bus, own_nats: NatsPiece) -> None:
    await bus.prepare_stage(PLAN)
    async with worker_process(own_nats.url) as one, worker_process(own_nats.url) as two:
        await asyncio.gather(*(bus.publish(command(n, sleep_s=0.02)) for n in range(40)))
        await eventually(lambda: _is_done(bus))
        for worker in (one, two):
            worker.process.send_signal(signal.SIGTERM)
            assert await worker.ended() == 0
    shares = [sum(line.startswith("done") for line in worker.lines) for worker in (one, two)]
    assert sum(shares) == 40
    assert min(shares) >= 8


async def _is_done(bus: Bus) -> bool:
    info = await bus.client.jetstream().stream_info(topology.COMMANDS.name)
    return info.state.messages == 0
