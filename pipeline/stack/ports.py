"""TCP ports on loopback: which are free, who takes which, and who listens."""

from __future__ import annotations

import errno
import os
import random
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

from pipeline.errors import Misconfigured

# Below the range from which Linux takes the local ends of outgoing connections.
_SAFE = range(20_000, 32_000)
_LISTENING: Final = "0A"


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


def any_free(rng: random.Random) -> int:
    """Some free port that no outgoing connection is given."""
    while True:
        port = rng.choice(_SAFE)
        if is_free(port):
            return port


def _listening(process: Path, port: int) -> list[str]:
    """Sockets as they are called in `/proc/<pid>/fd` (proc(5), net/tcp)."""
    lines: list[str] = []
    for table in ("tcp", "tcp6"):
        path = process / "net" / table
        lines += path.read_text().splitlines()[1:] if path.exists() else []
    rows = [line.split() for line in lines]
    end = f":{port:04X}"
    return [f"socket:[{row[9]}]" for row in rows if row[3] == _LISTENING and row[1].endswith(end)]
