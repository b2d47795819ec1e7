"""Starts the pieces in order, brings back what dies, stops all in reverse order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from pipeline.errors import YardError
from pipeline.stack.piece import Piece

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 30.0
STABLE_AFTER_S = 60.0

Report = Callable[[str], None]


class Supervisor:
    """`stages` are started one after the other, the pieces within one together."""

    def __init__(self, stages: Sequence[Sequence[Piece]], *, report: Report) -> None:
        self._stages = stages
        self._report = report
        self._watches: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Returns when every piece is ready. Raises Misconfigured, with all stopped again."""
        try:
            for stage in self._stages:
                async with asyncio.TaskGroup() as group:
                    for piece in stage:
                        group.create_task(self._start(piece))
        except BaseExceptionGroup as several:
            await self.stop()
            raise several.exceptions[0] from several
        except BaseException:
            await self.stop()
            raise
        pieces = [piece for stage in self._stages for piece in stage]
        self._watches = [asyncio.create_task(self._watch(piece)) for piece in pieces]

    async def stop(self) -> None:
        """Idempotent."""
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        self._watches = []
        for stage in reversed(self._stages):
            await asyncio.gather(*(piece.stop() for piece in stage))

    async def _start(self, piece: Piece) -> None:
        await piece.start()
        self._report(f"{piece.name} is ready")

    async def _watch(self, piece: Piece) -> None:
        """Restarts a piece for as long as it takes, at growing intervals."""
        loop = asyncio.get_running_loop()
        pause_s = BACKOFF_FIRST_S
        while True:
            began = loop.time()
            await piece.wait()
            if loop.time() - began > STABLE_AFTER_S:
                pause_s = BACKOFF_FIRST_S
            self._report(f"{piece.name} died; starting it again in {pause_s:g} s")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, BACKOFF_MAX_S)
            try:
                await self._start(piece)
            except YardError as error:
                self._report(error.message)
