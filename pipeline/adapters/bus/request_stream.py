"""One request, many replies, over core NATS: for output that is followed and not kept.

The server sends frames to the client's inbox; each names the server's control inbox as its reply
subject. The client grants credit there, so that at most `WINDOW` frames are under way, and says
when it leaves. Should it vanish, the broker itself answers the next frame with "no responders".
A quiet server says that it lives. The last frame carries how it ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager

from nats.aio.client import Client
from nats.aio.msg import Msg

from pipeline import concurrency
from pipeline.adapters.bus.connection import FOREIGN, translated
from pipeline.errors import BusUnavailable, Overloaded, Timeout, TooLarge, YardError, every_error

log = logging.getLogger(__name__)

Handler = Callable[[bytes], AsyncIterator[bytes]]

WINDOW = 64
STREAMS = 64
"""Streams that one server feeds at once; further requests end with `overloaded`."""
ALIVE_S = 5
"""A quiet server sends a sign of life this often."""
FRAME_HEADERS = 1024
"""Bytes left for them below the broker's limit."""
CREDIT_TIMEOUT_S = 60
"""A client that takes nothing for this long is taken for gone."""

_NUMBER, _KIND, _CODE, _TEXT = "Yard-Frame", "Yard-Kind", "Yard-Code", "Yard-Message"
_ALIVE, _END, _FAILED = "alive", "end", "failed"
_LEAVE = b"leave"


async def request_stream(
    client: Client, subject: str, payload: bytes, *, idle_s: float
) -> AsyncGenerator[bytes, None]:
    """Chunks in order until the server ends. Closing the iterator stops the server.

    Raises BusUnavailable when nobody serves the subject or frames were lost on the way, Timeout
    after `idle_s` without any sign of life, and whatever Modelyard error the server's handler
    raised, by its code.
    """
    inbox = client.new_inbox()
    frames: asyncio.Queue[Msg] = asyncio.Queue()
    control = ""
    with translated():
        subscription = await client.subscribe(inbox, cb=frames.put)
        await client.publish(subject, payload, reply=inbox)
    try:
        unpaid = number = 0
        while True:
            frame = await _frame(frames, subject, idle_s)
            control = frame.reply or control
            headers, number = frame.headers or {}, number + 1
            if headers.get(_NUMBER) != str(number):
                raise BusUnavailable(f"The stream from {subject} was cut: ask again.")
            kind = headers.get(_KIND)
            if kind == _END:
                control = ""
                return
            if kind == _ALIVE:
                continue
            yield frame.data
            unpaid += 1
            if unpaid == WINDOW // 2:
                with translated():
                    await client.publish(control, str(unpaid).encode())
                unpaid = 0
    finally:
        # Best effort: should it not arrive, the broker tells the server that nobody listens.
        with contextlib.suppress(*FOREIGN):
            if control:
                await client.publish(control, _LEAVE)
            await subscription.unsubscribe()


async def _frame(frames: asyncio.Queue[Msg], subject: str, idle_s: float) -> Msg:
    try:
        async with asyncio.timeout(idle_s):
            frame = await frames.get()
    except TimeoutError:
        raise Timeout(f"Nothing came from {subject} for {idle_s:g} s.", operation=subject) from None
    headers = frame.headers or {}
    if headers.get("Status") == "503":
        raise BusUnavailable(f"Nobody answers at {subject}: is its agent running?")
    if headers.get(_KIND) == _FAILED:
        raise _error(headers.get(_CODE, ""), headers.get(_TEXT, ""))
    return frame


def _error(code: str, message: str) -> YardError:
    kind = next((kind for kind in every_error() if kind.code == code), YardError)
    return kind(message)


@asynccontextmanager
async def serve_stream(client: Client, subject: str, handler: Handler) -> AsyncIterator[None]:
    """While open, answer each request with what `handler` yields for its payload.

    A handler is closed as soon as its reader has left; leaving the context closes all of them.
    """
    running: set[asyncio.Task[None]] = set()

    async def accept(request: Msg) -> None:
        if request.reply:
            feed = _feed(client, request, handler, overloaded=len(running) >= STREAMS)
            task = asyncio.create_task(feed, name=f"serve {subject}")
            running.add(task)
            task.add_done_callback(running.discard)

    with translated():
        subscription = await client.subscribe(subject, cb=accept)
    try:
        yield
    finally:
        if not client.is_closed:
            await subscription.unsubscribe()
        await concurrency.cancel_and_wait(*running)


async def _feed(client: Client, request: Msg, handler: Handler, *, overloaded: bool) -> None:
    """One stream from its first frame to the one that says how it ended."""
    feed = _Feed(client, request.reply)
    subscription = await client.subscribe(feed.control, cb=feed.heard)
    try:
        if overloaded:
            raise Overloaded("Too many streams are open here: try again later.")
        await feed.send_all(handler(request.data))
        await feed.send(b"", kind=_END)
    except asyncio.CancelledError:
        await feed.fail(BusUnavailable("The other side is shutting down."))
        raise
    except _ReaderLeft:
        log.debug("the reader of %s left", request.subject)
    except YardError as error:
        await feed.fail(error)
    except Exception:
        log.exception("serving %s failed", request.subject)
        await feed.fail(YardError("The other side failed unexpectedly."))
    finally:
        if not client.is_closed:
            await subscription.unsubscribe()


class _ReaderLeft(Exception):
    pass


class _Feed:
    def __init__(self, client: Client, inbox: str) -> None:
        self.control = client.new_inbox()
        self._client = client
        self._inbox = inbox
        self._credit = WINDOW
        self._sent = 0
        self._changed = asyncio.Event()
        self._left = asyncio.get_running_loop().create_future()

    async def heard(self, message: Msg) -> None:
        if message.data == _LEAVE or (message.headers or {}).get("Status") == "503":
            if not self._left.done():
                self._left.set_result(None)
        elif message.data.isdigit():
            self._credit += int(message.data)
            self._changed.set()

    async def send_all(self, chunks: AsyncIterator[bytes]) -> None:
        """Raises _ReaderLeft. The iterator is closed in any case."""
        sending = asyncio.create_task(self._send_each(chunks))
        alive = asyncio.create_task(self._heartbeat())
        first: set[asyncio.Future[None]] = {sending, alive, self._left}
        try:
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                raise _ReaderLeft
            await sending
        finally:
            await concurrency.cancel_and_wait(sending, alive)

    async def _send_each(self, chunks: AsyncIterator[bytes]) -> None:
        async with contextlib.aclosing(chunks):  # type: ignore[type-var]
            async for chunk in chunks:
                await self._await_credit()
                await self.send(chunk)

    async def _await_credit(self) -> None:
        while self._credit == 0:
            self._changed.clear()
            if not await concurrency.comes_within(self._changed, CREDIT_TIMEOUT_S):
                raise _ReaderLeft
        self._credit -= 1

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(ALIVE_S)
            await self.send(b"", kind=_ALIVE)

    async def fail(self, error: YardError) -> None:
        text = " ".join(error.message.split())[:500]
        with contextlib.suppress(BusUnavailable):
            await self.send(b"", kind=_FAILED, code=error.code, text=text)

    async def send(self, data: bytes, *, kind: str = "", code: str = "", text: str = "") -> None:
        if len(data) + FRAME_HEADERS > self._client.max_payload:
            raise TooLarge(f"A frame of {len(data)} bytes is larger than the broker accepts.")
        self._sent += 1
        given = {_NUMBER: str(self._sent), _KIND: kind, _CODE: code, _TEXT: text}
        headers = {name: value for name, value in given.items() if value}
        with translated():
            await self._client.publish(self._inbox, data, self.control, headers)
