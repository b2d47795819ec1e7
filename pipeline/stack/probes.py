"""Asking a neighbour whether it is there: tiny clients for readiness checks only."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Answer(NamedTuple):
    status: int
    body: bytes


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


async def get(host: str, port: int, path: str, *, timeout_s: float = 2) -> Answer | None:
    """HTTP GET; None when nobody answers in time."""
    return await _asked(asyncio.open_connection(host, port), host, path, timeout_s)


async def get_from_socket(socket: Path, path: str, *, timeout_s: float = 2) -> Answer | None:
    """The same over a Unix socket."""
    return await _asked(asyncio.open_unix_connection(socket), "localhost", path, timeout_s)


async def accepts(host: str, port: int, *, timeout_s: float = 2) -> bool:
    """Does anything listen there?"""
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, port)
            await _close(writer)
    except (OSError, TimeoutError):
        return False
    return True


async def _asked(
    opening: Awaitable[_Streams], host: str, path: str, timeout_s: float
) -> Answer | None:
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await opening
            try:
                # HTTP/1.0: the body ends where the connection does.
                writer.write(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
                return _answer(await reader.read())
            finally:
                await _close(writer)
    except (OSError, TimeoutError):
        return None


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


def _answer(text: bytes) -> Answer | None:
    head, _, body = text.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    if len(words) < 2 or not words[1].isdigit():
        return None
    return Answer(int(words[1]), body)
