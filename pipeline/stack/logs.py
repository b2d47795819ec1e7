"""Logs that stay small although the programs that write them never let go of the file."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

MAX_BYTES = 16 * 1024 * 1024
CHECK_EVERY_S = 5.0


async def keep_small(folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
    """Runs until cancelled. One older file of each log is kept, as `<name>.1`."""
    while True:
        for log in folder.glob("*.log"):
            cap(log, max_bytes)
        await asyncio.sleep(CHECK_EVERY_S)


def cap(log: Path, max_bytes: int) -> None:
    """Moves the text aside once it is too long.

    The writers append, so they go on at the new end. What they write between the copy and the cut
    is lost.
    """
    if log.stat().st_size > max_bytes:
        shutil.copyfile(log, log.with_name(f"{log.name}.1"))
        with log.open("r+b") as file:
            file.truncate(0)
