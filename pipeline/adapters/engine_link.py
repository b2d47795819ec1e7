"""One engine: the connections to it, the threads that block on them, and how long they may."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

from requests import Response

from pipeline.adapters.engine_client import (
    FOREIGN,
    Client,
    Wires,
    connect,
    negotiate,
    translate,
)
from pipeline.adapters.engine_refusals import refusal
from pipeline.adapters.engine_stream import ByteStream, Feed, never_time_out
from pipeline.errors import EngineError, EngineUnavailable, Overloaded, YardError

T = TypeVar("T")
Pool = Literal["calls", "launches", "waits", "pulls", "streams", "events"]
Refused = Callable[[Response], YardError]

_THREADS: dict[Pool, int] = {
    "calls": 16,
    "launches": 16,
    "waits": 16,
    "pulls": 16,
    "streams": 64,
    "events": 4,
}
"""Pools of their own, so that slow starts, stops, pulls and followed outputs hold up no call, and
so that readers of outputs, however many, do not make us deaf to what happens."""

_WAKE_TIMES, _WAKE_PAUSE_S = 20, 0.05


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the engine may take, in seconds."""

    connect_s: float = 5
    call_s: float = 60
    """For an ordinary call; for a stream, until its headers are there."""
    wait_s: float = 60
    """For a removal, and for a stop on top of its grace."""


DEFAULT_PATIENCE = Patience()


class EngineLink:
    """Contacts nobody until the first call. Every method raises YardErrors only."""

    def __init__(self, docker_host: str, patience: Patience) -> None:
        self.where = docker_host or os.environ.get("DOCKER_HOST") or "its default socket"
        self._docker_host = docker_host
        self._patience = patience
        self._pools = {
            pool: ThreadPoolExecutor(size, f"engine-{pool}") for pool, size in _THREADS.items()
        }
        self._streams: dict[ByteStream, Pool] = {}
        self._wires = Wires()
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
        usual_s = self._patience.wait_s if pool == "waits" else self._patience.call_s
        read_s = usual_s + extra_s
        refused = partial(refusal, fallback=fallback)
        work = partial(self._exchange, method, path, read_s, refused, **request)
        return await self._in_thread(pool, work, read_s + self._patience.connect_s)

    def stream(
        self,
        method: str,
        path: str,
        *,
        pool: Pool = "streams",
        header_s: float | None = None,
        endless: bool = False,
        refused: Refused | None = None,
        **request: Any,
    ) -> ByteStream:
        """A long answer; the caller closes it. `endless`: once begun it may be silent for ever.

        Raises Overloaded at once when every thread of the pool is taken.
        """
        self._refuse_when_closed()
        if Counter(self._streams.values())[pool] >= _THREADS[pool]:
            raise Overloaded(f"The engine serves {_THREADS[pool]} {pool} already; try again later.")
        read_s = header_s or self._patience.call_s
        refused = refused or partial(refusal, fallback=EngineError)
        opened = partial(self._open, method, path, read_s, refused, stream=True, **request)
        body = partial(self._pieces, endless)
        stream = ByteStream(opened, body, self._pools[pool], self._wires.wake)
        self._streams[stream] = pool
        stream.reader.add_done_callback(lambda _: self._streams.pop(stream))
        return stream

    async def send(
        self, method: str, path: str, body: AsyncIterator[bytes], **request: Any
    ) -> None:
        """An exchange whose body comes piece by piece. Cancelling it breaks the request off."""
        feed = Feed(body)
        read_s = self._patience.call_s
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
            if not self._wires.wake_all():
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
        timeout = (self._patience.connect_s, read_s)
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

    def _session(self) -> tuple[Client, str]:
        """The version is asked for once, and again after every loss of the engine: it may have
        been upgraded."""
        with self._lock:
            if self._client is None:
                self._client = connect(self._docker_host, self._wires)
            version = self._version or self._negotiate(self._client)
            self._version = version
            return self._client, version

    def _negotiate(self, client: Client) -> str:
        with client.get(f"{client.base_url}/version", timeout=self._patience.connect_s) as answer:
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
