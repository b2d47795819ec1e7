"""What all programs of the embedded stack have in common."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.errors import Misconfigured
from pipeline.stack import ports, probes
from pipeline.stack.process import Process

_TELLING = re.compile(r"panic:|fatal|\berror\b|\[FTL\]|failed", re.IGNORECASE)


class Piece(ABC):
    """A program with its folder: configured, started, found ready, stopped.

    Data and port stay the same over restarts. `pause` and `kill` are what faults do to it.
    """

    name: str
    port: int | None = None
    """Where it listens on loopback, if it does."""
    start_timeout_s: float = 30
    stop_grace_s: float = 10

    def __init__(self, folder: Path, *, log: Path | None = None) -> None:
        self.folder = folder.absolute()
        self.log = (log or folder / f"{self.name}.log").absolute()
        self._process: Process | None = None

    @abstractmethod
    def prepare(self) -> None:
        """Writes what the program reads at its start. Idempotent."""

    @abstractmethod
    def command(self) -> Sequence[str]: ...

    @abstractmethod
    async def ready(self) -> bool:
        """Would it serve a request now?"""

    async def settle(self) -> None:  # noqa: B027 - most need none
        """What is left to do once it answers for the first time, before it counts as ready."""

    async def clean(self) -> None:  # noqa: B027 - most leave nothing outside their folder
        """Takes back what the kernel still holds for it. Idempotent; also after a crash."""

    def environment(self) -> Mapping[str, str] | None:
        """None hands ours down."""
        return None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.running else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    async def start(self) -> None:
        """Returns when it is ready. Raises Misconfigured, naming the log, when it does not start.

        A no-op while it runs.
        """
        if self.running:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.prepare()
        process = Process(self.command(), log=self.log, env=self.environment())
        self._process = process
        process.start()
        try:
            await self._until_ready(process)
            await self.settle()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Ends it and cleans up. Idempotent."""
        if self._process is not None:
            await self._process.stop(self.stop_grace_s)
        await self.clean()

    async def kill(self) -> None:
        """SIGKILL: nothing is flushed and nothing is cleaned."""
        if self._process is not None:
            await self._process.kill()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def wait(self) -> None:
        """Returns when the program has ended, for whatever reason."""
        if self._process is not None:
            await self._process.wait()

    def pause(self) -> None:
        """Connections stay open and nobody answers, from when this returns."""
        if self._process is not None:
            self._process.pause()

    def resume(self) -> None:
        if self._process is not None:
            self._process.signal(signal.SIGCONT)

    async def _until_ready(self, process: Process) -> None:
        async def ready_or_ended() -> bool:
            return not process.running or (self._listens(process) and await self.ready())

        in_time = await probes.until(ready_or_ended, timeout_s=self.start_timeout_s)
        if not process.running:
            raise Misconfigured(
                f"{self.name} ended with {process.exit_code} instead of starting; "
                f"its log {self.log} says: {last_words(self.log)}"
            )
        if not in_time:
            raise Misconfigured(
                f"{self.name} was not ready after {self.start_timeout_s:g} s; read {self.log}."
            )

    def _listens(self, process: Process) -> bool:
        """Whoever was quicker to take its port may well be ready, too."""
        return self.port is None or ports.listens(process.pid, self.port)


def program(name: str, *, remedy: str) -> str:
    """Absolute path of a program: beside our Python, on PATH, or in the system folders.

    Raises Misconfigured with the remedy.
    """
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin:/sbin"]
    found = shutil.which(name, path=":".join(folders))
    if found is None:
        raise Misconfigured(f"{name} is missing: {remedy}", program=name)
    return found


def last_words(log: Path) -> str:
    """The line of a log that tells best why a program ended; empty when there is none."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 8192))
        lines = file.read().decode(errors="replace").strip().splitlines()
    telling = [line for line in lines if _TELLING.search(line)]
    return (telling or lines or [""])[-1].strip()
