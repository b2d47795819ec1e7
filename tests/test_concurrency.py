"""Taking turns within one process."""

from __future__ import annotations

import asyncio

from pipeline.concurrency import KeyedLocks


async def test_one_at_a_time_per_thing_in_the_order_of_arrival() -> None:
    turns, begun, running = KeyedLocks(), [], 0

    async def take(number: int) -> None:
        nonlocal running
        async with turns.of("a"):
            running += 1
            assert running == 1
            begun.append(number)
            await asyncio.sleep(0)
            running -= 1

    await asyncio.gather(*(take(number) for number in range(10)))
    assert begun == list(range(10))


async def test_different_things_do_not_wait_for_each_other() -> None:
    turns = KeyedLocks()
    async with turns.of("a"), asyncio.timeout(1), turns.of("b"):
        return


async def test_nothing_is_remembered_of_what_nobody_waits_for() -> None:
    turns = KeyedLocks()
    for number in range(100):
        async with turns.of(number):
            assert len(turns._locks) == 1
    assert len(turns._locks) == 0


async def test_a_failure_inside_lets_the_next_one_go_on() -> None:
    turns = KeyedLocks()
    try:
        async with turns.of("a"):
            raise ValueError("x")
    except ValueError:
        async with asyncio.timeout(1), turns.of("a"):
            return
