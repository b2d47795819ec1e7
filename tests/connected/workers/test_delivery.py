"""From a published command to its handler, on a real broker: nothing lost, nothing done twice."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from pipeline import topology
from pipeline.adapters.bus import connection
from pipeline.adapters.bus import pull as bus_pull
from pipeline.adapters.bus.client import Bus
from pipeline.dead_letters.service import DeadLetters
from pipeline.errors import Conflict, InvalidInput, LostRace, RegistryUnavailable
from pipeline.stack.pieces.nats import NatsPiece
from schemas.message import Message
from tests.support.events import remove_stage, stored_events
from tests.support.systems.working import QUICK, TRIAL, Order, Worker, command, member, working
from tests.support.waiting import eventually


async def test_a_command_reaches_its_handler_whole(bus: Bus) -> None:
    sent = command(1)
    async with working(bus, Worker()) as worker:
        await bus.publish(sent)
        await eventually(lambda: worker.done == [1])
        assert worker.commands == [sent]
        await eventually(lambda: _queue_is_empty(bus))
    assert worker.count("done") == 1
    assert worker.registry.get_sample_value("modelyard_delivery_seconds_count", {"stage": "trial"})


async def test_what_a_handler_publishes_belongs_to_the_trace_of_its_command(bus: Bus) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"

    async def publish(order: Order, command: Message) -> None:
        happened = topology.event("acme", "trial", "t1", "done")
        await bus.publish(command.model_copy(update={"subject": happened, "traceparent": None}))

    sent = command(1).model_copy(update={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
    async with working(bus, Worker(publish)) as worker:
        await bus.publish(sent)
        await eventually(lambda: worker.done == [1])
    [event] = [event async for event in stored_events(bus, "acme")]
    assert event.headers["traceparent"].split("-")[1] == trace


async def test_a_command_published_twice_is_handled_once(bus: Bus) -> None:
    async with working(bus, Worker()) as worker:
        for _ in range(3):
            await bus.publish(command(1))
        await bus.publish(command(2))
        await eventually(lambda: 2 in worker.done)
    assert worker.begun == [1, 2]


async def test_work_longer_than_the_ack_wait_runs_once(bus: Bus) -> None:
    async def long(order: Order, _: Message) -> None:
        await asyncio.sleep(3 * QUICK.ack_wait_s)

    async with working(bus, Worker(long), QUICK) as worker:
        await bus.publish(command(1))
        await eventually(lambda: worker.done == [1])
    assert worker.begun == [1]


async def test_what_may_pass_is_tried_again_after_a_delay(bus: Bus) -> None:
    times: list[float] = []

    async def flaky(order: Order, _: Message) -> None:
        times.append(asyncio.get_running_loop().time())
        if len(times) < 3:
            raise RegistryUnavailable("busy", retry_after_s=0.3 if len(times) == 1 else 0)

    async with working(bus, Worker(flaky)) as worker:
        await bus.publish(command(1))
        await eventually(lambda: worker.done == [1])
    assert times[1] - times[0] >= 0.3
    assert times[2] - times[1] >= 0.1
    assert worker.count("retried") == 2
    assert worker.count("done") == 1


async def test_a_lost_race_is_dropped(bus: Bus) -> None:
    async def lose(order: Order, _: Message) -> None:
        raise LostRace("somebody else")

    async with working(bus, Worker(lose)) as worker:
        await bus.publish(command(1))
        await eventually(lambda: worker.count("dropped") == 1)
        await eventually(lambda: _queue_is_empty(bus))
    assert (await DeadLetters(bus).list(member("acme"))).items == []


async def test_a_cancellation_from_inside_the_handler_is_a_failure_like_others(bus: Bus) -> None:
    async def awaits_what_is_cancelled(order: Order, command: Message) -> None:
        if worker.begun.count(1) < 2:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

    worker = Worker(awaits_what_is_cancelled)
    async with working(bus, worker):
        await bus.publish(command(1))
        await eventually(lambda: worker.done == [1])
    assert worker.count("retried") == 1


async def test_no_more_run_at_once_than_the_plan_says_and_all_get_their_turn(bus: Bus) -> None:
    at_once: list[int] = []
    running = 0

    async def work(order: Order, _: Message) -> None:
        nonlocal running
        running += 1
        at_once.append(running)
        await asyncio.sleep(0.01)
        running -= 1

    async with working(bus, Worker(work)) as worker:
        await asyncio.gather(*(bus.publish(command(number)) for number in range(40)))
        await eventually(lambda: sorted(worker.done) == list(range(40)))
    assert max(at_once) == TRIAL.workers


async def test_messages_wait_at_the_broker_not_in_a_busy_worker(bus: Bus) -> None:
    """Two ack waits pass; those that no worker was free for are not delivered meanwhile."""
    release = asyncio.Event()

    async def hold(order: Order, _: Message) -> None:
        await release.wait()

    plan = replace(QUICK, workers=2)
    async with working(bus, Worker(hold), plan) as worker:
        for number in range(6):
            await bus.publish(command(number))
        await eventually(lambda: len(worker.begun) == 2)
        await asyncio.sleep(2 * plan.ack_wait_s)
        info = await bus.client.jetstream().consumer_info("YARD_COMMANDS", "trial")
        assert (info.num_ack_pending, info.num_pending, info.num_redelivered) == (2, 4, 0)
        release.set()
        await eventually(lambda: len(worker.done) == 6)
    assert sorted(worker.begun) == list(range(6))


async def test_two_workers_share_the_work(bus: Bus, own_nats: NatsPiece) -> None:
    async def work(order: Order, _: Message) -> None:
        await asyncio.sleep(0.01)

    async with (
        Bus.open(own_nats.url, name="second") as second,
        working(bus, Worker(work)) as one,
        working(second, Worker(work)) as two,
    ):
        await asyncio.gather(*(bus.publish(command(number)) for number in range(60)))
        await eventually(lambda: len(one.done) + len(two.done) == 60)
    assert sorted(one.done + two.done) == list(range(60))
    assert min(len(one.done), len(two.done)) > 10


async def test_a_stopping_worker_finishes_what_it_can_and_hands_back_the_rest(bus: Bus) -> None:
    async def work(order: Order, _: Message) -> None:
        await asyncio.sleep(0.2 if order.number == 1 else 60)

    plan = replace(TRIAL, ack_wait_s=60)
    async with working(bus, Worker(work), plan, drain_s=1) as first:
        await bus.publish(command(1))
        await bus.publish(command(2))
        await eventually(lambda: len(first.begun) == 2)
    assert first.done == [1]
    assert first.cancelled == [2]
    assert first.count("handed_back") == 1

    # Handed back means now, not after the ack wait of a minute.
    async with working(bus, Worker(), plan) as second:
        await eventually(lambda: second.done == [2])


async def test_a_durable_deleted_under_a_worker_is_made_anew(bus: Bus) -> None:
    async with working(bus, Worker()) as worker:
        await bus.publish(command(1))
        await eventually(lambda: worker.done == [1])
        await remove_stage(bus, TRIAL)
        await bus.publish(command(2))
        await eventually(lambda: worker.done == [1, 2])


async def test_a_stream_deleted_under_a_worker_is_made_anew(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_pull, "HEARTBEAT_S", 0.5)
    async with working(bus, Worker()) as worker:
        await bus.client.jetstream().delete_stream("YARD_COMMANDS")
        await eventually(lambda: _exists(bus))
        await bus.publish(command(1))
        await eventually(lambda: worker.done == [1])


async def test_a_worker_resumes_after_the_broker_was_killed(bus: Bus, own_nats: NatsPiece) -> None:
    release = asyncio.Event()

    async def hold(order: Order, _: Message) -> None:
        if order.number == 1:
            await release.wait()

    async with working(bus, Worker(hold)) as worker:
        await bus.publish(command(1))
        await eventually(lambda: worker.begun == [1])
        await own_nats.kill()
        await own_nats.start()
        await bus.publish(command(2))
        await eventually(lambda: worker.done == [2])
        release.set()
        await eventually(lambda: worker.done == [2, 1])
        await eventually(lambda: _queue_is_empty(bus))
    assert worker.begun == [1, 2]


async def test_a_worker_resumes_after_the_broker_stood_still(
    own_nats: NatsPiece, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For longer than both the ack wait and the time between two pings of the client."""
    monkeypatch.setattr(connection, "PING_INTERVAL_S", 1)
    async with Bus.open(own_nats.url, name="test") as bus, working(bus, Worker(), QUICK) as worker:
        await bus.publish(command(1))
        await eventually(lambda: worker.done == [1])
        own_nats.pause()
        await asyncio.sleep(1.5)
        own_nats.resume()
        await bus.publish(command(2))
        await eventually(lambda: worker.done == [1, 2])


async def test_a_message_that_comes_again_while_it_is_worked_on_is_not_begun_twice(
    bus: Bus,
) -> None:
    release = asyncio.Event()

    async def hold(order: Order, _: Message) -> None:
        await release.wait()

    async with working(bus, Worker(hold)) as worker:
        await bus.publish(command(1))
        await eventually(lambda: worker.begun == [1])
        # As when the broker heard nothing for an ack wait.
        await bus.client.publish(worker.received[0].raw.reply, b"-NAK")
        await eventually(lambda: worker.count("duplicate") == 1)
        assert worker.received[0].raw.metadata.num_delivered == 2
        release.set()
        await eventually(lambda: worker.done == [1])
        await eventually(lambda: _queue_is_empty(bus))
    assert worker.begun == [1]


@pytest.mark.parametrize("error", [InvalidInput("no"), Conflict("taken")])
async def test_what_cannot_succeed_is_not_tried_again(bus: Bus, error: Exception) -> None:
    async def refuse(order: Order, _: Message) -> None:
        raise error

    async with working(bus, Worker(refuse)) as worker:
        await bus.publish(command(1))
        await eventually(lambda: worker.count("buried") == 1)
    assert worker.begun == [1]


async def _queue_is_empty(bus: Bus) -> bool:
    info = await bus.client.jetstream().stream_info(topology.COMMANDS.name)
    return info.state.messages == 0


async def _exists(bus: Bus) -> bool:
    return await bus.missing((topology.COMMANDS,), (TRIAL,)) == []
