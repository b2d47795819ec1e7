"""Long answers and long requests between a blocking HTTP session and the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, Future

from requests import Response

from pipeline import tasks

_PIECE_BYTES = 64 * 1024
_ROOM = 16
"""Pieces (1 MiB at most) that wait for the reader; then the thread, and so the engine, waits."""

_WAKE_AGAIN_S = 0.05


ReadBody = Callable[[Response, int], Iterator[bytes]]
"""Reads a body in pieces of a size at most."""

Wake = Callable[[int], None]
"""Makes what the thread with this ident is blocked on fail."""


class ByteStream:
    """The body of one answer, read by a thread of `pool` and handed over in bounded pieces.

    Close it (`aclose`): that ends the thread and hangs up, so the engine stops too. An error of
    the thread is raised where the next piece would have been.
    """

    def __init__(
        self, open_: Callable[[], Response], body: ReadBody, pool: Executor, wake: Wake
    ) -> None:
        self._open = open_
        self._body = body
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._room = threading.Semaphore(_ROOM)
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._closing = False
        self.reader = self._loop.run_in_executor(pool, self._read)
        self.reader.add_done_callback(lambda _: self._pieces.put_nowait(None))

    def __aiter__(self) -> ByteStream:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._pieces.get()
        if piece is not None:
            self._room.release()
            return piece
        self._pieces.put_nowait(None)  # it stays at its end
        self.reader.result()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Returns when the thread has ended, also when it is cancelled meanwhile. Idempotent."""
        self._closing = True
        self._room.release()
        await tasks.uncut(self._end())

    async def _end(self) -> None:
        while not self.reader.done():
            self._wake_thread()
            # More than once: it may have been on its way to where it blocks.
            await asyncio.wait([self.reader], timeout=_WAKE_AGAIN_S)
        if not self.reader.cancelled():
            self.reader.exception()  # whoever closed it does not care how it ended

    def _wake_thread(self) -> None:
        with self._lock:
            if self._thread is not None:
                self._wake(self._thread)

    def _read(self) -> None:
        with self._lock:
            self._thread = threading.get_ident()
        try:
            if not self._closing:
                self._hand_over()
        finally:
            with self._lock:
                self._thread = None

    def _hand_over(self) -> None:
        with self._open() as answer:
            for piece in self._body(answer, _PIECE_BYTES):
                self._room.acquire()
                if self._closing:
                    return
                self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)


def never_time_out(answer: Response) -> None:
    """For a body that may be silent for ever. The wait for its headers stays bounded."""
    connection = answer.raw.connection
    if connection is not None and connection.sock is not None:
        connection.sock.settimeout(None)


class Feed:
    """An asynchronous iterator as the body of a request that a thread sends."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self._loop = asyncio.get_running_loop()
        self._next: Future[bytes | None] | None = None
        self._stopped = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        """Raises concurrent.futures.CancelledError once stopped, which breaks the request off."""
        while (piece := self._wait_for_next()) is not None:
            if piece:  # an empty chunk would end the body
                yield piece

    def stop(self) -> None:
        self._stopped.set()
        if self._next is not None:
            self._next.cancel()

    def _wait_for_next(self) -> bytes | None:
        self._next = asyncio.run_coroutine_threadsafe(self._pull(), self._loop)
        if self._stopped.is_set():
            self._next.cancel()
        return self._next.result()

    async def _pull(self) -> bytes | None:
        return await anext(self._pieces, None)
