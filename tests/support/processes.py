"""Ports and processes of this run."""

from __future__ import annotations

import random

from pipeline.stack.processes.probes import is_free
from pipeline.stack.processes.process import Owner

# Below the range from which Linux takes the local ends of outgoing connections.
_SAFE = range(20_000, 32_000)


def any_free(rng: random.Random) -> int:
    """Some free port that no outgoing connection is given."""
    while True:
        port = rng.choice(_SAFE)
        if is_free(port):
            return port


def tag_of(owner: Owner) -> str:
    """Names a folder after who made it."""
    return f"{owner.pid}-{owner.started}"


def owner_of(tag: str) -> Owner:
    """Text that is not a tag gives an owner that is not alive."""
    pid, _, started = tag.partition("-")
    return Owner(int(pid), int(started)) if pid.isdigit() and started.isdigit() else Owner(-1, -1)
