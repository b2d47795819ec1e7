"""HAProxy in its master-worker mode, run by somebody else: told by its file and its two sockets.

https://docs.haproxy.org/2.6/management.html (3, "-W", "-S"; 9.3, 9.4).
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from pipeline.errors import Misconfigured, Unreachable

ANSWER_S = 5
CHECK_S = 30
RELOAD_S = 10
POLL_S = 0.02
_WORKER = re.compile(r"^(\d+)\s+worker\b", re.MULTILINE)
"""Of `show proc`, the newest first."""
_FINE = ("New server registered", "Server deleted", "Server still has connections")


class Haproxy:
    """Its configuration and its two sockets lie in one folder, which is its owner's only."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "haproxy.cfg"
        self.revoked = folder / "revoked"
        self.admin_socket = folder / "admin.sock"
        self.master_socket = folder / "master.sock"

    def command(self) -> list[str]:
        """What runs it: a master that keeps the listening sockets over reloads.

        Raises Misconfigured when HAProxy is not installed.
        """
        return [_program(), "-W", "-db", "-S", str(self.master_socket), "-f", str(self.file)]

    async def write(self, configuration: str) -> None:
        """Have this configuration from the next start or reload on. The file holds a secret.

        Raises Misconfigured, with what HAProxy says, for one that it would not take; the file that
        is there stays then.
        """
        fresh = self.file.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_text(configuration)
        await self._check(fresh)
        os.replace(fresh, self.file)

    def revoke(self, ids: Iterable[str]) -> None:
        """Have these admit nobody from the next start or reload on."""
        fresh = self.revoked.with_suffix(".new")
        fresh.write_text("".join(f"{id}\n" for id in sorted(ids)))
        os.replace(fresh, self.revoked)

    async def reload(self) -> None:
        """Take the file; no connection is cut. Returns when master and new worker answer.

        Raises Unreachable when it is not there, or does not come up in time.
        """
        before = await self._worker()
        await _said(self.master_socket, "reload")
        try:
            async with asyncio.timeout(RELOAD_S):
                while not await self._is_renewed(before):  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise Unreachable(f"HAProxy did not reload {self.file}: read its log.") from None

    async def ask(self, command: str) -> str:
        """Of the worker's admin socket. Raises Unreachable."""
        return await _said(self.admin_socket, command)

    async def statistics(self) -> list[str]:
        """`show stat` of the worker, then of each one before it that still has connections.

        Raises Unreachable.
        """
        processes = _WORKER.findall(await _said(self.master_socket, "show proc"))
        return [await _said(self.master_socket, f"@!{each} show stat") for each in processes]

    async def tell(self, commands: Iterable[str]) -> None:
        """One after the other, all of them. Raises Unreachable with what HAProxy said against the
        first that it refused, or when it is not there."""
        refused: list[str] = []
        for command in commands:
            answer = (await self.ask(command)).strip()
            if answer and not answer.startswith(_FINE):
                refused.append(f"{command!r}: {answer}")
        if refused:
            raise Unreachable(f"HAProxy refuses {len(refused)} commands, first {refused[0]}")

    async def _is_renewed(self, before: str) -> bool:
        if await self._worker() in ("", before):
            return False
        try:
            await _said(self.master_socket, "show proc")
        except Unreachable:
            return False
        return True

    async def _worker(self) -> str:
        """Who serves at the moment, for comparison only."""
        try:
            info = await self.ask("show info")
        except Unreachable:
            return ""
        return next((line for line in info.splitlines() if line.startswith("Pid:")), "")

    async def _check(self, file: Path) -> None:
        checking = await asyncio.create_subprocess_exec(
            *(_program(), "-c", "-f", str(file)),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(CHECK_S):
                _, told = await checking.communicate()
        except TimeoutError:
            checking.kill()
            await checking.wait()
            raise Unreachable("HAProxy does not end the check of its configuration.") from None
        if checking.returncode:
            said = [
                line for line in told.decode(errors="replace").splitlines() if "[ALERT]" in line
            ]
            raise Misconfigured(f"HAProxy does not take its configuration: {' '.join(said)[:1000]}")


def _program() -> str:
    """Not every PATH has the folders of system programs."""
    path = ":".join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))
    if found := shutil.which("haproxy", path=path):
        return found
    raise Misconfigured("haproxy is missing: install it (Debian's package haproxy).")


async def _said(socket: Path, command: str) -> str:
    """The answer to one command. Raises Unreachable."""
    try:
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_unix_connection(str(socket))
            try:
                writer.write(f"{command}\n".encode())
                # The master would wait for another command.
                writer.write_eof()
                return (await reader.read()).decode(errors="replace")
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        raise Unreachable(f"HAProxy does not answer at {socket}: is it running?") from error
