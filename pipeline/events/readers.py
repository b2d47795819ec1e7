"""Readers of events: each sees those of one organisation that it asked for, in order, once.

They read along a lane, which holds the newest events of their organisation, encoded once for all.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from itertools import dropwhile

from pipeline.concurrency import comes_within
from pipeline.errors import YardError
from pipeline.events import sse
from pipeline.events.sse import EventId
from pipeline.topology import EventSubject


@dataclass(frozen=True, slots=True)
class Frame:
    """One event, encoded once for all readers."""

    sequence: int
    subject: EventSubject
    data: bytes


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events of the organisation a reader asked for. Empty sets and None mean all."""

    resources: frozenset[str] = frozenset()
    ids: frozenset[str] = frozenset()
    kind: str | None = None
    """A whole kind, or its first parts: `pull` covers `pull` and `pull.progressed`."""

    def covers(self, subject: EventSubject) -> bool:
        return (
            (not self.resources or subject.resource in self.resources)
            and (not self.ids or subject.id in self.ids)
            and (
                self.kind is None
                or subject.kind == self.kind
                or subject.kind.startswith(self.kind + ".")
            )
        )


Replay = Callable[[int], Awaitable[tuple[list[Frame], int]]]
"""Some events after a sequence, from the stream, and the sequence up to which that is all."""


class Lane:
    """The newest events of one organisation and those who read along.

    Every event of the organisation after `floor`, up to the head of the hub, is in `frames`.
    """

    def __init__(self, floor: int, limit: int) -> None:
        self.floor = floor
        self.limit = limit
        self.filling = asyncio.Lock()
        self.filled = False
        self.frames: deque[Frame] = deque()
        self.readers: set[Reader] = set()

    def append(self, frame: Frame) -> None:
        self.frames.append(frame)
        self._trim()
        for reader in self.readers:
            reader.offer(frame)

    async def fill(self, replay: Replay, oldest: int) -> None:
        """Once: put what happened just before the lane was made in front of what came since.

        `oldest` is the sequence of the oldest event that is still kept.
        """
        async with self.filling:
            if self.filled:
                return
            before = self.floor
            floor = min(before, max(oldest - 1, before - self.limit))
            older, upto = await replay(floor)
            if before == self.floor <= upto:
                older = [frame for frame in older if frame.sequence <= before]
                self.frames.extendleft(reversed(older))
                self.floor = floor
                self._trim()
            self.filled = True

    def after(self, sequence: int) -> Iterable[Frame]:
        return dropwhile(lambda frame: frame.sequence <= sequence, self.frames)

    def _trim(self) -> None:
        while len(self.frames) > self.limit:
            self.floor = self.frames.popleft().sequence


CHUNK_FRAMES = 64
"""Frames handed out at once: what one write to a socket may hold."""


class Reader:
    """A place in the stream. First reads what the lane does not hold, then joins the lane.

    What it has not fetched is bounded by the lane's limit; beyond that it leaves the lane, and
    reads from the stream again at its own pace.
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
        self.fallen_behind = 0
        """How often it was too slow for the lane and went back to the stream."""
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
        while True:
            chunk = await self._catch_up(timeout_s)
            if chunk:
                return chunk
            await comes_within(self._moved, timeout_s)
            if self._joined or self._is_dismissed():
                return self._take()

    def offer(self, frame: Frame) -> None:
        """Takes it, or leaves it when it is still reading what came before the lane."""
        if not self._joined or frame.sequence <= self._position or self._farewell is not None:
            return
        if not self._wanted.covers(frame.subject):
            return
        if len(self._pending) >= self._lane.limit:
            # What it has not fetched is in the stream: it reads on from there, and joins again.
            self._pending.clear()
            self._joined = False
            self.fallen_behind += 1
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
