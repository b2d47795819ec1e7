"""The programs of the embedded stack: what all have in common, and who starts and stops them."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipeline import concurrency
from pipeline.errors import Misconfigured, YardError
from pipeline.stack.processes import probes
from pipeline.stack.processes.process import Process, telling_line


class Piece(Process, ABC):
    """A program with its folder: configured, started, found ready, stopped.

    Data and port stay the same over restarts. `pause` and `kill` are what faults do to it.
    """

    name: str
    start_timeout_s: float = 30
    stop_grace_s: float = 10

    def __init__(self, folder: Path, *, port: int = 0, log: Path | None = None) -> None:
        """It listens on that port of the loopback; on none for 0."""
        super().__init__(log or folder / f"{self.name}.log")
        self.folder = folder.absolute()
        self.port = port

    def prepare(self) -> None:
        """Writes what the program reads at its start. Idempotent."""

    @abstractmethod
    def command(self) -> Sequence[str]: ...

    @abstractmethod
    async def ready(self) -> bool:
        """Would it serve a request now?"""

    async def after_start(self) -> None:
        """What is left to do once it answers for the first time, before it counts as ready."""

    async def clean(self) -> None:
        """Takes back what the kernel still holds for it. Idempotent; also after a crash."""

    def environment(self) -> Mapping[str, str] | None:
        """None hands ours down."""
        return None

    async def start(self) -> None:
        """Returns when it is ready. Raises Misconfigured, naming the log, when it does not start.

        A no-op while it runs.
        """
        if self.running:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.prepare()
        self.spawn(self.command(), self.environment())
        try:
            await self._until_ready()
            await self.after_start()
        except BaseException:
            await self.stop()
            raise

    async def answers(self, path: str, *, port: int = 0, status: int = 200) -> bool:
        """Is an HTTP GET on loopback, at its own port if at no other, answered so?"""
        return await probes.status("127.0.0.1", port or self.port, path) == status

    async def stop(self) -> None:
        """Ends it and cleans up. Idempotent."""
        await self.terminate(self.stop_grace_s)
        await self.clean()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def _until_ready(self) -> None:
        async def ready_or_ended() -> bool:
            return not self.running or (self._listens() and await self.ready())

        in_time = await probes.until(ready_or_ended, timeout_s=self.start_timeout_s)
        if not self.running:
            raise Misconfigured(
                f"{self.name} ended with {self.exit_code} instead of starting; "
                f"its log {self.log} says: {telling_line(self.log)}"
            )
        if not in_time:
            raise Misconfigured(
                f"{self.name} was not ready after {self.start_timeout_s:g} s; read {self.log}."
            )

    def _listens(self) -> bool:
        """Whoever was quicker to take its port may well be ready, too."""
        pid = self.pid
        return not self.port or (pid is not None and probes.listens(pid, self.port))


def program(name: str, *, remedy: str) -> str:
    """Absolute path of a program: beside our Python, on PATH, or in the system folders.

    Raises Misconfigured with the remedy.
    """
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin:/sbin"]
    found = shutil.which(name, path=":".join(folders))
    if found is None:
        raise Misconfigured(f"{name} is missing: {remedy}", program=name)
    return found


BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 30.0
STABLE_AFTER_S = 60.0

Report = Callable[[str], None]


class Supervisor:
    """`stages` are started one after the other, the pieces within one together."""

    def __init__(self, stages: Sequence[Sequence[Piece]], *, report: Report) -> None:
        self._stages = stages
        self._report = report
        self._watches: dict[Piece, asyncio.Task[None]] = {}

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
        self._watches = {piece: asyncio.create_task(self._watch(piece)) for piece in pieces}

    async def stop(self) -> None:
        """Idempotent."""
        for watch in self._watches.values():
            watch.cancel()
        await asyncio.gather(*self._watches.values(), return_exceptions=True)
        self._watches = {}
        for stage in reversed(self._stages):
            await asyncio.gather(*(piece.stop() for piece in stage))

    async def restart(self, piece: Piece) -> None:
        """On purpose, with another configuration: that is no death. Raises Misconfigured, and goes
        on trying."""
        await concurrency.cancel_and_wait(self._watches[piece])
        try:
            await piece.restart()
        finally:
            self._watches[piece] = asyncio.create_task(self._watch(piece))

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
