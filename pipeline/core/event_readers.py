"""Readers of events: each sees those of one organisation that it asked for, in order, once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from pipeline.core.event_lanes import Frame, Lane, Replay, Wanted
from pipeline.errors import YardError
from pipeline.rules import sse
from pipeline.rules.sse import EventId

CHUNK_FRAMES = 64
"""Frames handed out at once: what one write to a socket may hold."""


class Reader:
    """A place in the stream. First reads what the lane does not hold, then joins the lane.

    What it has not fetched is bounded by the lane's limit; beyond that it is cut off.
    """

    def __init__(
        self,
        lane: Lane,
        wanted: Wanted,
        *,
        replay: Replay,
        head: Callable[[], int],
        opening: bytes,
        start: EventId,
    ) -> None:
        """`opening` are the first bytes for the wire; `head` is how far the lane is complete."""
        self.opening = opening
        self.ended = False
        """True once `read` has returned its last frame."""
        self.overflown = False
        self._lane = lane
        self._wanted = wanted
        self._replay = replay
        self._head = head
        self._epoch = start.epoch
        self._position = start.sequence
        self._joined = False
        self._pending: deque[Frame] = deque()
        self._farewell: bytes | None = None
        self._moved = asyncio.Event()
        lane.readers.add(self)
        self._join_if_near()

    async def read(self, timeout_s: float) -> bytes:
        """Whole frames for the wire: events, a heartbeat after `timeout_s`, or a last hint."""
        chunk = await self._catch_up(timeout_s)
        if chunk:
            return chunk
        if not self._moved.is_set():
            await _set_within(self._moved, timeout_s)
        return self._take()

    def offer(self, frame: Frame) -> None:
        if not self._joined or frame.sequence <= self._position or self._farewell is not None:
            return
        if not self._wanted.covers(frame.subject):
            return
        if len(self._pending) >= self._lane.limit:
            self._pending.clear()
            self.overflown = True
            self.dismiss("overflow", "This reader was too slow: resume by the last id.")
            return
        self._pending.append(frame)
        self._moved.set()

    def dismiss(self, name: str, reason: str) -> None:
        """End after what is pending, with a control frame that says why."""
        if self._farewell is None:
            self._farewell = sse.control_frame(name, {"reason": reason})
            self._moved.set()

    def close(self) -> None:
        self._lane.readers.discard(self)
        self._pending.clear()

    def _is_dismissed(self) -> bool:
        return self._farewell is not None

    async def _catch_up(self, timeout_s: float) -> bytes:
        end = asyncio.get_running_loop().time() + timeout_s
        while not self._joined and not self._is_dismissed():
            if self._join_if_near():
                break
            try:
                frames, self._position = await self._replay(self._position)
            except YardError as error:
                self.dismiss("bye", error.message)
                break
            if self._is_dismissed():
                break  # the stream may be another one by now
            events = b"".join(one.data for one in frames if self._wanted.covers(one.subject))
            if events:
                return events
            if asyncio.get_running_loop().time() > end:
                return self._heartbeat()  # much was read, nothing of it was asked for
        return b""

    def _join_if_near(self) -> bool:
        """In one step, without awaiting: what comes next comes through `offer`."""
        if self._position < self._lane.floor:
            return False
        self._joined = True
        for frame in self._lane.after(self._position):
            self.offer(frame)
        return True

    def _take(self) -> bytes:
        count = min(CHUNK_FRAMES, len(self._pending))
        if count:
            taken = [self._pending.popleft() for _ in range(count)]
            self._position = taken[-1].sequence
            self._settle()
            return b"".join(frame.data for frame in taken)
        self._settle()
        if self._farewell is not None:
            self.ended = True
            return self._farewell
        self._position = max(self._position, self._head())
        return self._heartbeat()

    def _heartbeat(self) -> bytes:
        return sse.heartbeat_frame(EventId(self._epoch, self._position))

    def _settle(self) -> None:
        if not self._pending and self._farewell is None:
            self._moved.clear()


async def _set_within(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
