"""Taking turns within one process."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.concurrency import KeyedLocks, SharedReads


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
    async with turns.of("a"), asyncio.timeout(30), turns.of("b"):
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
        async with asyncio.timeout(30), turns.of("a"):
            return


class Source:
    """Answers with how many reads had begun, each when it is let go on."""

    def __init__(self) -> None:
        self.begun = 0
        self.has_begun = asyncio.Event()
        self.may_end = asyncio.Event()

    async def read(self) -> int:
        self.begun += 1
        number = self.begun
        self.has_begun.set()
        await self.may_end.wait()
        return number


async def test_who_asks_while_a_read_is_under_way_shares_the_next_one() -> None:
    reads, source = SharedReads[int](), Source()
    first = asyncio.create_task(reads.of("a", source.read))
    await source.has_begun.wait()
    later = [asyncio.create_task(reads.of("a", source.read)) for _ in range(5)]
    await asyncio.sleep(0)
    assert source.begun == 1
    source.may_end.set()
    assert await first == 1
    assert await asyncio.gather(*later) == [2] * 5
    assert not reads._running
    assert not reads._next


async def test_reads_of_different_things_wait_for_none_of_each_other() -> None:
    reads, slow, quick = SharedReads[int](), Source(), Source()
    quick.may_end.set()
    waiting = asyncio.create_task(reads.of("a", slow.read))
    await slow.has_begun.wait()
    async with asyncio.timeout(30):
        assert await reads.of("b", quick.read) == 1
    slow.may_end.set()
    assert await waiting == 1


async def test_who_leaves_takes_the_read_from_nobody() -> None:
    reads, source = SharedReads[int](), Source()
    leaving = asyncio.create_task(reads.of("a", source.read))
    staying = asyncio.create_task(reads.of("a", source.read))
    await source.has_begun.wait()
    leaving.cancel()
    source.may_end.set()
    assert await staying == 1
    with pytest.raises(asyncio.CancelledError):
        await leaving


async def test_a_read_that_fails_fails_for_those_who_share_it_alone() -> None:
    reads = SharedReads[int]()

    async def fail() -> int:
        raise ValueError("x")

    async def answer() -> int:
        return 1

    failed = await asyncio.gather(*(reads.of("a", fail) for _ in range(2)), return_exceptions=True)
    assert [type(each) for each in failed] == [ValueError] * 2
    assert await reads.of("a", answer) == 1
