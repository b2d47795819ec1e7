"""Container logs, read from the node that runs the container, through the broker."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from pydantic import AwareDatetime

from pipeline.errors import Conflict
from pipeline.ports import Engine, LogLine
from pipeline.rules import launching, topology
from schemas.access import Principal
from schemas.base import Shape

if TYPE_CHECKING:
    from pipeline.adapters.bus import Bus
    from pipeline.core.containers import Containers

IDLE_S = 30
"""An agent that says nothing for this long, not even that it is alive, is taken for gone."""


class LogRequest(Shape):
    container: str
    tail: int | None = 100
    since: AwareDatetime | None = None
    follow: bool = False


class LogEntry(Shape):
    """One chunk of output."""

    stream: Literal["stdout", "stderr"]
    time: AwareDatetime
    text: str


class Logs:
    """The reading side; the agents answer with `serve`."""

    def __init__(self, bus: Bus, containers: Containers) -> None:
        self._bus = bus
        self._containers = containers

    async def read(
        self,
        caller: Principal,
        uuid: str,
        *,
        tail: int | None = 100,
        since: datetime | None = None,
        follow: bool = False,
    ) -> AsyncIterator[LogEntry]:
        """Oldest first. With `follow` it ends when the container does, or the reader leaves.

        Raises NotFound, Conflict when the container never reached a node, EngineUnavailable,
        BusUnavailable when its agent does not answer.
        """
        container = await self._containers.get(caller, uuid)
        if container.node is None:
            raise Conflict(f"The container is {container.status}: it has no logs yet.")
        request = LogRequest(container=uuid, tail=tail, since=since, follow=follow)
        chunks = self._bus.request_stream(
            topology.agent_service(container.node, "logs"),
            request.model_dump_json().encode(),
            idle_s=IDLE_S,
        )
        async with aclosing(chunks):
            async for chunk in chunks:
                yield LogEntry.model_validate_json(chunk)


async def serve(engine: Engine, node: str, payload: bytes) -> AsyncIterator[bytes]:
    """The agent's side of `Logs.read`."""
    request = LogRequest.model_validate_json(payload)
    lines = engine.logs(
        launching.name_of(request.container, node),
        tail=request.tail,
        since=request.since,
        follow=request.follow,
    )
    async with aclosing(lines):
        async for line in lines:
            yield _encode(line)


def _encode(line: LogLine) -> bytes:
    return json.dumps(
        {"stream": line.stream, "time": line.time.isoformat(), "text": line.text}
    ).encode()
