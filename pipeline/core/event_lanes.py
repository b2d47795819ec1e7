"""The newest events of an organisation, encoded once for all who read along."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from itertools import dropwhile
from typing import Protocol

from pipeline.rules.topology import EventSubject


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


class Follower(Protocol):
    def offer(self, frame: Frame) -> None:
        """Takes it, or leaves it when it is still reading what came before the lane."""
        ...


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
        self.readers: set[Follower] = set()

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
