"""One child process that cannot outlive us, its identity and its log."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import Misconfigured

# The kernel kills the child when the thread that made it dies, whatever killed that. A parent that
# is gone before the order is in place is noticed by the changed parent id.
_DIES_WITH_US = (
    *("setpriv", "--pdeathsig", "KILL", "--"),
    *("sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"'),
)


MAX_LOG_BYTES = 16 * 1024 * 1024
CHECK_LOGS_EVERY_S = 5.0
_TELLING = re.compile(r"panic:|fatal|\berror\b|\[FTL\]|failed", re.IGNORECASE)


class Process:
    """A command in a process group of its own, its output appended to `log`.

    Spawn it from a thread that lives as long as the process should: the kernel ends it with that
    thread. Signals go to the whole group, and nowhere before the first spawn.
    """

    def __init__(self, log: Path) -> None:
        self.log = log.absolute()
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int | None:
        """None unless it runs."""
        return self._child.pid if self._child is not None and self.running else None

    @property
    def exit_code(self) -> int | None:
        """None before the start and while it runs; negative when a signal ended it."""
        return None if self._child is None else self._child.poll()

    def spawn(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        """Without `env` it gets our environment. Raises Misconfigured for a missing program."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            try:
                self._child = subprocess.Popen(
                    [*_DIES_WITH_US, str(os.getpid()), *command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=None if env is None else dict(env),
                    start_new_session=True,
                )
            except FileNotFoundError as error:
                raise Misconfigured(f"{error.filename} is missing: run `make setup`.") from error

    def signal(self, number: int) -> None:
        """No-op when it has ended."""
        if (pid := self.pid) is not None:
            os.killpg(pid, number)

    def pause(self) -> None:
        """Connections stay open and nobody answers, from when this returns, or it has ended."""
        self.signal(signal.SIGSTOP)
        if (pid := self.pid) is not None:
            os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    async def terminate(self, grace_s: float) -> None:
        """SIGTERM, and SIGKILL after `grace_s`. Returns when it has ended; idempotent."""
        self.resume()
        self.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.wait(), grace_s)
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """SIGKILL: nothing is flushed and nothing is cleaned. Returns when it has ended."""
        self.signal(signal.SIGKILL)
        await self.wait()

    async def wait(self) -> None:
        """Returns when it has ended (at once when it never started), for whatever reason."""
        child = self._child
        if child is None or child.poll() is not None:
            return
        try:
            handle = os.pidfd_open(child.pid)
        except ProcessLookupError:
            return
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(handle, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(handle)
            os.close(handle)
        child.wait()


@dataclass(frozen=True, slots=True)
class Owner:
    """A process id with the time (in clock ticks since boot) at which that process started."""

    pid: int
    started: int

    @classmethod
    def me(cls) -> Owner:
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> Owner:
        """Of a process that exists now; start time -1 when it does not."""
        return cls(pid, _started(pid))

    @property
    def alive(self) -> bool:
        """A zombie is not: it runs no more, whoever forgot to collect it."""
        return self.started >= 0 and _started(self.pid) == self.started


def _started(pid: int) -> int:
    """From /proc; -1 when there is no such process or only its corpse."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return -1
    # The command name before this may hold spaces and parentheses.
    fields = text.rpartition(")")[2].split()
    return -1 if fields[0] in "ZX" else int(fields[19])


async def rotate(folder: Path, *, max_bytes: int = MAX_LOG_BYTES) -> None:
    """Runs until cancelled. One older file of each log is kept, as `<name>.1`."""
    while True:
        for log in folder.glob("*.log"):
            cap(log, max_bytes)
        await asyncio.sleep(CHECK_LOGS_EVERY_S)


def cap(log: Path, max_bytes: int) -> None:
    """Moves the text aside once it is too long.

    The writers append, so they go on at the new end. What they write between the copy and the cut
    is lost.
    """
    if log.stat().st_size > max_bytes:
        shutil.copyfile(log, log.with_name(f"{log.name}.1"))
        with log.open("r+b") as file:
            file.truncate(0)


def telling_line(log: Path) -> str:
    """The line of a log that tells best why a program ended; empty when there is none."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 8192))
        lines = file.read().decode(errors="replace").strip().splitlines()
    telling = [line for line in lines if _TELLING.search(line)]
    return (telling or lines or [""])[-1].strip()
