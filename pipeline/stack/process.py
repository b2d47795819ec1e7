"""One child process that cannot outlive us."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.errors import Misconfigured

# The kernel kills the child when the thread that made it dies, whatever killed that. A parent that
# is gone before the order is in place is noticed by the changed parent id.
_LEASH = ("setpriv", "--pdeathsig", "KILL", "--", "sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"')


class Process:
    """A command in a process group of its own, its output appended to `log`.

    Start it from a thread that lives as long as the process should: the kernel ends it with that
    thread. Signals go to the whole group.
    """

    def __init__(
        self, command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self._command = list(command)
        self._log = log
        self._env = env
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Raises Misconfigured before the start."""
        if self._child is None:
            raise Misconfigured(f"{self._command[0]} was not started.")
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    @property
    def exit_code(self) -> int | None:
        """None before the start and while it runs; negative when a signal ended it."""
        return None if self._child is None else self._child.poll()

    def start(self) -> None:
        """Raises Misconfigured when the program is missing."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            try:
                self._child = subprocess.Popen(
                    [*_LEASH, str(os.getpid()), *self._command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=None if self._env is None else dict(self._env),
                    start_new_session=True,
                )
            except FileNotFoundError as error:
                raise Misconfigured(f"{error.filename} is missing: run `make setup`.") from error

    def pause(self) -> None:
        """Returns when every thread of it stands still, or when it has ended."""
        self.signal(signal.SIGSTOP)
        if self.running:
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def signal(self, number: int) -> None:
        """No-op when it has ended."""
        if self.running:
            os.killpg(self.pid, number)

    async def stop(self, grace_s: float) -> None:
        """SIGTERM, and SIGKILL after `grace_s`. Returns when it has ended; idempotent."""
        if not self.running:
            return
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.wait(), grace_s)
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """SIGKILL; returns when it has ended."""
        self.signal(signal.SIGKILL)
        await self.wait()

    async def wait(self) -> None:
        """Returns when it has ended (at once when it never started)."""
        if not self.running:
            return
        try:
            handle = os.pidfd_open(self.pid)
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
        assert self._child is not None
        self._child.wait()
