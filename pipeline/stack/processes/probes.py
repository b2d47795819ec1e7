"""What answers on this machine, and which of its TCP ports are free: for readiness checks only."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

from pipeline.errors import Misconfigured

_LISTENING: Final = "0A"
_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def until(
    probe: Callable[[], Awaitable[bool]], *, timeout_s: float, every_s: float = 0.02
) -> bool:
    """Asks again and again; False when `timeout_s` passed without a yes."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not await probe():
        if asyncio.get_running_loop().time() >= deadline:
            return False
        await asyncio.sleep(every_s)
    return True


async def status(host: str, port: int, path: str, *, timeout_s: float = 2) -> int | None:
    """Of the answer to an HTTP GET; None when nobody answers in time."""
    return await _status(asyncio.open_connection(host, port), host, path, timeout_s)


async def status_on_socket(socket: Path, path: str, *, timeout_s: float = 2) -> int | None:
    """The same over a Unix socket."""
    return await _status(asyncio.open_unix_connection(socket), "localhost", path, timeout_s)


async def accepts(host: str, port: int, *, timeout_s: float = 2) -> bool:
    """Does anything listen there?"""
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, port)
            await _close(writer)
    except (OSError, TimeoutError):
        return False
    return True


async def _status(
    opening: Awaitable[_Streams], host: str, path: str, timeout_s: float
) -> int | None:
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await opening
            try:
                # HTTP/1.0: the answer ends where the connection does.
                writer.write(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
                words = (await reader.read()).partition(b"\r\n\r\n")[0].split(None, 2)
                return int(words[1]) if len(words) > 1 and words[1].isdigit() else None
            finally:
                await _close(writer)
    except (OSError, TimeoutError):
        return None


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


def is_free(port: int) -> bool:
    """Could a server listen on 127.0.0.1:`port` now?"""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


class Claims(ExitStack):
    """The ports of one stack, which no other stack of this machine takes before they are used.

    They are free again when it is left, and when the process ends however that comes about.
    """

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    def choose(self, wanted: int, *, setting: str, auto: bool) -> int:
        """`wanted`, or with `auto` the next port that is free and that nobody claims.

        Raises Misconfigured, naming the setting, when the port is not to be had.
        """
        last = 65_535 if auto else wanted
        for port in range(wanted, last + 1):
            if is_free(port) and self._claim(port):
                return port
        raise Misconfigured(
            f"Port {wanted} is taken: set {setting} to a free one, or use `--ports auto`.",
            setting=setting,
        )

    def _claim(self, port: int) -> bool:
        # An abstract address is in no folder, and the kernel takes it back with the process.
        mark = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            mark.bind(f"\0modelyard-port-{port}")
        except OSError as error:
            mark.close()
            if error.errno != errno.EADDRINUSE:
                raise
            return False
        self.enter_context(mark)
        return True


def listens(pid: int, port: int) -> bool:
    """Whether it is this process that takes connections on `port`, and not another one."""
    process = Path("/proc", str(pid))
    try:
        waiting = set(_listening(process, port))
        return any(os.readlink(held) in waiting for held in (process / "fd").iterdir())
    except FileNotFoundError:
        return False  # it has ended, or what it held is closed again


def _listening(process: Path, port: int) -> list[str]:
    """Sockets as they are called in `/proc/<pid>/fd` (proc(5), net/tcp)."""
    lines: list[str] = []
    for table in ("tcp", "tcp6"):
        path = process / "net" / table
        lines += path.read_text().splitlines()[1:] if path.exists() else []
    rows = [line.split() for line in lines]
    end = f":{port:04X}"
    return [f"socket:[{row[9]}]" for row in rows if row[3] == _LISTENING and row[1].endswith(end)]
