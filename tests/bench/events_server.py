"""The process that `bench_events` measures: readers of a hub, and bare ASGI beside them.

python -m tests.bench.events_server PORT
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from api.http.streams import EVENT_STREAM, Stream
from pipeline import topology
from pipeline.events import sse
from pipeline.events.hub import EventHub
from pipeline.events.readers import CHUNK_FRAMES, Wanted
from pipeline.events.sse import EventId
from pipeline.settings import Settings
from tests.support.event_log import FakeEventLog

ORG = "acme"
FACTS = {"id": "i1"}
HEARTBEAT_S = 15


class Feed:
    """Events are kept in memory: neither a broker nor a disk is measured here."""

    def __init__(self, hub: EventHub, log: FakeEventLog) -> None:
        self._hub = hub
        self._log = log
        event = log.happen(**FACTS)
        subject = topology.parse_event(event.subject)
        place = EventId(log.epoch, event.sequence)
        self._frame = sse.event_frame(place, subject, event.headers, event.data)

    async def read(self, request: Request) -> Response:
        """What `/yard/v1/events` does for a caller that it knows."""
        async with AsyncExitStack() as stack:
            subscription = self._hub.subscribe(ORG, Wanted(), after=None)
            reader = await stack.enter_async_context(subscription)
            held = stack.pop_all()

        async def frames() -> AsyncGenerator[bytes]:
            yield reader.opening
            while not reader.ended:
                yield await reader.read(HEARTBEAT_S)

        return Stream(frames(), EVENT_STREAM, held=held)

    async def happen(self, request: Request) -> Response:
        """So many events at once."""
        for _ in range(int(request.query_params["count"])):
            self._log.happen(**FACTS)
        return JSONResponse({"readers": self._hub.readers, "frame_bytes": len(self._frame)})

    async def raw(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As many frames of the same bytes, in pieces as large as ours, by nothing but ASGI."""
        count = int(QueryParams(scope["query_string"])["count"])
        piece = {
            "type": "http.response.body",
            "body": self._frame * CHUNK_FRAMES,
            "more_body": True,
        }
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(0, count, CHUNK_FRAMES):
            await send(piece)
        await send({"type": "http.response.body"})


async def main(port: int) -> None:
    log = FakeEventLog()
    limit = Settings.model_fields["event_buffer_frames"].default
    async with EventHub.open(log, buffer_frames=limit) as hub:
        await log.opened.wait()
        feed = Feed(hub, log)
        routes = [
            Route("/events", feed.read),
            Route("/happen", feed.happen, methods=["POST"]),
            Mount("/raw", feed.raw),
        ]
        config = uvicorn.Config(Starlette(routes=routes), port=port, log_level="error")
        await uvicorn.Server(config).serve()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
