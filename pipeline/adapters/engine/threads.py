"""One engine: the connections to it, the threads that block on them, and long bodies both ways."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

from requests import Response

from pipeline import concurrency
from pipeline.adapters.engine.client import (
    FOREIGN,
    Client,
    Connections,
    bare_connection,
    connect,
    negotiate,
    refusal,
    translate,
)
from pipeline.errors import EngineError, EngineUnavailable, Overloaded, YardError

T = TypeVar("T")
Pool = Literal["calls", "launches", "waits", "pulls", "streams", "outputs", "events"]
Refused = Callable[[Response], YardError]

_THREADS: dict[Pool, int] = {
    "calls": 16,
    "launches": 16,
    "waits": 16,
    "pulls": 16,
    "streams": 64,
    "outputs": 1024,
    "events": 4,
}
"""Pools of their own, so that slow starts, stops, pulls and followed outputs hold up no call, and
so that readers of outputs, however many, do not make us deaf to what happens. A pool has no more
threads than were needed at once: `outputs` one for each container that is followed."""

_WAKE_TIMES, _WAKE_PAUSE_S = 20, 0.05
_PIECE_BYTES = 64 * 1024
_ROOM = 16
"""Pieces (1 MiB at most) that wait for the reader; then the thread, and so the engine, waits."""

_WAKE_AGAIN_S = 0.05


ReadBody = Callable[[Response, int], Iterator[bytes]]
"""Reads a body in pieces of a size at most."""

Wake = Callable[[int], None]
"""Makes what the thread with this ident is blocked on fail."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long the engine may take, in seconds."""

    connect_s: float = 5
    call_s: float = 60
    """For an ordinary call; for a stream, until its headers are there."""
    wait_s: float = 60
    """For a removal, and for a stop on top of its grace."""


DEFAULT_TIMEOUTS = Timeouts()


class EngineLink:
    """Contacts nobody until the first call. Every method raises YardErrors only."""

    def __init__(self, docker_host: str, timeouts: Timeouts) -> None:
        self.where = docker_host or os.environ.get("DOCKER_HOST") or "its default socket"
        self._docker_host = docker_host
        self._timeouts = timeouts
        self._pools = {
            pool: ThreadPoolExecutor(size, f"engine-{pool}") for pool, size in _THREADS.items()
        }
        self._streams: dict[ByteStream, Pool] = {}
        self._connections = Connections()
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._version: str | None = None
        self._closed = False

    async def call(
        self,
        method: str,
        path: str,
        *,
        pool: Pool = "calls",
        extra_s: float = 0,
        fallback: type[YardError] = EngineError,
        **request: Any,
    ) -> Any:
        """One exchange; returns the JSON of the answer, None when it has no body.

        `fallback`: what a refusal is whose words say nothing more exact. `extra_s`: what the
        call may take longer than others.
        """
        usual_s = self._timeouts.wait_s if pool == "waits" else self._timeouts.call_s
        read_s = usual_s + extra_s
        refused = partial(refusal, fallback=fallback)
        work = partial(self._exchange, method, path, read_s, refused, **request)
        return await self._in_thread(pool, work, read_s + self._timeouts.connect_s)

    def stream(
        self,
        method: str,
        path: str,
        *,
        pool: Pool = "streams",
        header_s: float | None = None,
        endless: bool = False,
        taken_over: bool = False,
        refused: Refused | None = None,
        **request: Any,
    ) -> ByteStream:
        """A long answer; the caller closes it. `endless`: once begun it may be silent for ever.
        `taken_over`: so may this one, which is the bare connection from then on.

        Raises Overloaded at once when every thread of the pool is taken.
        """
        self._refuse_when_closed()
        if Counter(self._streams.values())[pool] >= _THREADS[pool]:
            raise Overloaded(f"The engine serves {_THREADS[pool]} {pool} already; try again later.")
        read_s = header_s or self._timeouts.call_s
        refused = refused or partial(refusal, fallback=EngineError)
        opened = partial(self._open, method, path, read_s, refused, stream=True, **request)
        body = self._bare_pieces if taken_over else partial(self._pieces, endless)
        stream = ByteStream(opened, body, self._pools[pool], self._connections.wake)
        self._streams[stream] = pool
        stream.reader.add_done_callback(lambda _: self._streams.pop(stream))
        return stream

    async def send(
        self, method: str, path: str, body: AsyncIterator[bytes], **request: Any
    ) -> None:
        """An exchange whose body comes piece by piece. Cancelling it breaks the request off."""
        feed = RequestBody(body)
        read_s = self._timeouts.call_s
        refused = partial(refusal, fallback=EngineError)
        work = partial(self._exchange, method, path, read_s, refused, data=feed, **request)
        try:
            await self._in_thread("streams", work, None)
        finally:
            feed.stop()

    async def close(self) -> None:
        """Ends every stream and breaks every call off. Idempotent."""
        self._closed = True
        await asyncio.gather(*(stream.aclose() for stream in list(self._streams)))
        for pool in self._pools.values():
            pool.shutdown(wait=False)
        # More than once: a thread may have been on its way to where it blocks.
        for _ in range(_WAKE_TIMES):
            if not self._connections.wake_all():
                break
            await asyncio.sleep(_WAKE_PAUSE_S)
        if self._client is not None:
            self._client.close()

    # --- in the threads -----------------------------------------------------------------------

    def _exchange(
        self, method: str, path: str, read_s: float, refused: Refused, **request: Any
    ) -> Any:
        with self._open(method, path, read_s, refused, **request) as answer:
            try:
                return answer.json() if answer.content else None
            except FOREIGN as error:
                raise self._translated(error) from error

    def _open(
        self, method: str, path: str, read_s: float, refused: Refused, **request: Any
    ) -> Response:
        timeout = (self._timeouts.connect_s, read_s)
        self._refuse_when_closed()  # it may have waited for its thread
        try:
            client, version = self._session()
            url = f"{client.base_url}/v{version}{path}"
            answer = client.request(method, url, timeout=timeout, **request)
            if answer.status_code < 400:
                return answer
            with answer:
                raise refused(answer)
        except FOREIGN as error:
            raise self._translated(error) from error

    def _pieces(self, endless: bool, answer: Response, size: int) -> Iterator[bytes]:
        if endless:
            never_time_out(answer)
        try:
            yield from answer.iter_content(size)
        except FOREIGN as error:
            raise self._translated(error) from error

    def _bare_pieces(self, answer: Response, size: int) -> Iterator[bytes]:
        try:
            bare = bare_connection(answer)
            # The library has let go of it: for whoever wakes this thread it is this one.
            self._connections.take(bare)
            bare.sock.settimeout(None)
            while piece := answer.raw.read1(size):
                yield piece
        except FOREIGN as error:
            raise self._translated(error) from error
        finally:
            self._connections.release()

    def _session(self) -> tuple[Client, str]:
        """The version is asked for once, and again after every loss of the engine: it may have
        been upgraded."""
        with self._lock:
            if self._client is None:
                self._client = connect(self._docker_host, self._connections)
            version = self._version or self._negotiate(self._client)
            self._version = version
            return self._client, version

    def _negotiate(self, client: Client) -> str:
        with client.get(f"{client.base_url}/version", timeout=self._timeouts.connect_s) as answer:
            if answer.status_code >= 400:
                raise EngineUnavailable(f"The Docker Engine at {self.where} is not ready.")
            return negotiate(answer.json())

    def _translated(self, error: Exception) -> YardError:
        meaning = translate(error, self.where)
        if isinstance(meaning, EngineUnavailable):
            self._version = None
        return meaning

    # --- in the event loop --------------------------------------------------------------------

    async def _in_thread(self, pool: Pool, work: Callable[[], T], limit_s: float | None) -> T:
        self._refuse_when_closed()
        try:
            async with asyncio.timeout(limit_s):
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._pools[pool], work)
        except TimeoutError as error:
            message = f"The Docker Engine at {self.where} took longer than {limit_s:g} s."
            raise EngineUnavailable(message) from error

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise EngineUnavailable("The connection to the Docker Engine was closed.")


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
        await concurrency.run_to_completion(self._end())

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


class RequestBody:
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
