"""What containers write: chunks on their way from an agent, and as they are kept."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from pydantic import Field

from schemas.base import Shape

StreamName: TypeAlias = Literal["stdout", "stderr"]
SECOND_NS = 1_000_000_000


class LogPosition(Shape):
    """A place in what one run of a container writes to one stream: behind the first `offset`
    characters of what the engine received at `time_ns` (nanoseconds since 1970)."""

    time_ns: int = Field(default=-1, ge=-1, lt=2**63)
    offset: int = Field(default=0, ge=0, lt=2**63)

    @property
    def key(self) -> tuple[int, int]:
        return self.time_ns, self.offset


LogPositions: TypeAlias = dict[StreamName, LogPosition]
"""By stream; what is missing was never written to."""


class SentChunk(Shape):
    """A chunk as an agent sends it."""

    container: str
    """uuid of the Container."""
    engine_id: str = Field(min_length=1, max_length=128)
    stream: StreamName
    begin: LogPosition
    end: LogPosition
    text: str = Field(max_length=64 * 1024)

    @property
    def id(self) -> str:
        """The same for the same output of the same run, whoever reads it and how often."""
        place = f"{self.engine_id}/{self.stream}/{self.begin.time_ns}/{self.begin.offset}"
        return hashlib.sha256(place.encode()).hexdigest()[:32]


class LogBatch(Shape):
    """Chunks of one node, in the order in which they were closed."""

    session: str = Field(max_length=128)
    """Of the agent's process."""
    chunks: list[SentChunk] = Field(min_length=1, max_length=10_000)


class LogOpening(Shape):
    """From now on chunks of this session count, and no others of the node.

    Stands in the stream behind what earlier sessions sent: the answer tells all of it.
    """

    session: str = Field(max_length=128)
    engine_ids: list[str]
    """Containers about which the agent wants to know how far their output came."""
    reply: str
    """Subject that gets a `LogOpened`."""


class LogOpened(Shape):
    positions: dict[str, LogPositions]
    """By engine id: the end of what is kept."""


class LogChunk(Shape):
    """Some of what a container wrote to one stream, as it is kept."""

    id: str
    container: str
    """uuid of the Container."""
    engine_id: str
    """Of its run: what the engine calls it."""
    node: str
    stream: StreamName
    begin: LogPosition
    text: str

    @property
    def time(self) -> datetime:
        """When the engine received its first byte; UTC, cut to whole microseconds."""
        seconds, rest_ns = divmod(self.begin.time_ns, SECOND_NS)
        return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest_ns // 1000)

    @property
    def created_at(self) -> str:
        """The same as the engine writes it: RFC 3339 with nanoseconds."""
        seconds, rest_ns = divmod(self.begin.time_ns, SECOND_NS)
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest_ns:09d}Z"
