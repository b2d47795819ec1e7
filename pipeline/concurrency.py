"""Locks by key, and tasks that end when they are told to: within one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Hashable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar
from weakref import WeakValueDictionary


class KeyedLocks:
    """One lock per key, of this process alone: the guard of a write decides between processes."""

    def __init__(self) -> None:
        # Whoever waits keeps its lock alive; when nobody does, it is forgotten.
        self._locks: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, key: Hashable) -> AsyncIterator[None]:
        """First come, first served."""
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        async with lock:
            yield

    def is_locked(self, key: Hashable) -> bool:
        lock = self._locks.get(key)
        return lock is not None and lock.locked()


T = TypeVar("T")

AGAIN_S = 0.2


class SharedTasks(Generic[T]):
    """One task for all who need the same, by key; it ends with the last of them."""

    def __init__(self) -> None:
        self._running: dict[Hashable, tuple[asyncio.Task[T], set[object]]] = {}

    @asynccontextmanager
    async def of(
        self, key: Hashable, work: Callable[[], Coroutine[Any, Any, T]]
    ) -> AsyncIterator[asyncio.Task[T]]:
        """The one under way, else a new one. Await it shielded: others need it, too."""
        running = self._running.get(key)
        if running is None or running[0].done():
            running = self._running[key] = (asyncio.create_task(work(), name=f"for {key}"), set())
        task, users = running
        user = object()
        users.add(user)
        try:
            yield task
        finally:
            users.remove(user)
            if not users:
                if self._running.get(key) is running:
                    del self._running[key]
                await cancel_and_wait(task)
                if not task.cancelled():
                    task.exception()  # whoever wanted it has left


class SharedReads(Generic[T]):
    """One read for all who ask for the same while an earlier one is under way, by key.

    A read serves nobody who asks after it has begun: an answer is never older than its question.
    """

    def __init__(self) -> None:
        self._running: dict[Hashable, asyncio.Task[T]] = {}
        self._next: dict[Hashable, asyncio.Task[T]] = {}

    async def of(self, key: Hashable, read: Callable[[], Awaitable[T]]) -> T:
        """What `read` of the first who asked returns or raises. All get the same object."""
        if (task := self._next.get(key)) is None:
            task = self._next[key] = asyncio.create_task(self._in_turn(key, read))
        return await asyncio.shield(task)

    async def _in_turn(self, key: Hashable, read: Callable[[], Awaitable[T]]) -> T:
        if (earlier := self._running.get(key)) is not None:
            await asyncio.wait([earlier])
        self._running[key] = self._next.pop(key)
        try:
            return await read()
        finally:
            del self._running[key]


async def cancel_and_wait(*tasks: asyncio.Task[Any]) -> None:
    """Cancel and wait until all have ended; what they raise is theirs alone.

    Cancels more than once: up to Python 3.11 `asyncio.wait_for`, which the NATS client uses for
    every request, swallows a cancellation that arrives together with the result.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN_S)


async def gather_or_cancel(*work: Coroutine[Any, Any, T]) -> list[T]:
    """Side by side until all have ended or one has failed, which is raised. Results in order.

    However it is left, nothing of it goes on; see `cancel_and_wait` for why a TaskGroup does not
    do that.
    """
    running = [asyncio.ensure_future(each) for each in work]
    try:
        return await asyncio.gather(*running)
    finally:
        await run_to_completion(cancel_and_wait(*running))


async def run_to_completion(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which goes on to its end however often its caller is cancelled.

    Only then is the cancellation raised, with what `work` raised as its cause. For clearing up,
    which must not stay half done.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(asyncio.wait([task]))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled from (None if task.cancelled() else task.exception())
    return task.result()


async def comes_within(event: asyncio.Event, timeout_s: float) -> bool:
    """Whether the event is set, now or within the time."""
    try:
        async with asyncio.timeout(timeout_s):
            return await event.wait()
    except TimeoutError:
        return False


def is_cancelled() -> bool:
    """Whether a CancelledError that is caught here was meant for the task that runs now, and not
    for something that it awaits."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def for_each(
    items: Iterable[T], work: Callable[[T], Awaitable[object]], *, at_once: int
) -> None:
    """Work on all of them, `at_once` side by side. Raises the first failure once all have ended."""
    turns = asyncio.Semaphore(at_once)

    async def in_turn(item: T) -> None:
        async with turns:
            await work(item)

    outcomes = await asyncio.gather(*map(in_turn, items), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
