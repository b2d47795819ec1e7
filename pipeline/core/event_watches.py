"""Waiting for something to happen to one record."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

Key = tuple[str, str, str]
"""Organisation, resource, id."""


class Watch:
    """One wait for news about one record. It says when to look, not what is new."""

    def __init__(self) -> None:
        self._moved = asyncio.Event()
        self._over = False

    async def moved(self, timeout_s: float) -> bool:
        """True when an event came since the last call; False when none came in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._moved.wait()
        except TimeoutError:
            return False
        if self._over:
            return False
        self._moved.clear()
        return True

    def wake(self) -> None:
        self._moved.set()

    def end(self) -> None:
        self._over = True
        self._moved.set()


class Watches:
    """All that are open in this process, found by their record."""

    def __init__(self) -> None:
        self._open: dict[Key, set[Watch]] = {}
        self._over = False

    @contextmanager
    def watch(self, key: Key) -> Iterator[Watch]:
        watch = Watch()
        if self._over:
            watch.end()
        self._open.setdefault(key, set()).add(watch)
        try:
            yield watch
        finally:
            self._open[key].discard(watch)
            if not self._open[key]:
                del self._open[key]

    def wake(self, key: Key) -> None:
        for watch in self._open.get(key, ()):
            watch.wake()

    def wake_all(self) -> None:
        for key in self._open:
            self.wake(key)

    def end(self) -> None:
        """Every wait is over, also those to come."""
        self._over = True
        for watches in self._open.values():
            for watch in watches:
                watch.end()
