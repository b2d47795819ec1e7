"""TCP ports on loopback."""

from __future__ import annotations

import errno
import random
import socket

from pipeline.errors import Misconfigured

# Below the range from which Linux takes the local ends of outgoing connections.
_SAFE = range(20_000, 32_000)


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


def choose(wanted: int, *, setting: str, auto: bool, taken: frozenset[int] = frozenset()) -> int:
    """`wanted`, or with `auto` the next port that is free and not in `taken`.

    Raises Misconfigured, naming the setting, when the port is not to be had.
    """
    last = 65_535 if auto else wanted
    for port in range(wanted, last + 1):
        if port not in taken and is_free(port):
            return port
    raise Misconfigured(
        f"Port {wanted} is taken: set {setting} to a free one, or use `--ports auto`.",
        setting=setting,
    )


def any_free(rng: random.Random) -> int:
    """Some free port that no outgoing connection is given."""
    while True:
        port = rng.choice(_SAFE)
        if is_free(port):
            return port
