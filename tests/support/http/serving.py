"""An application behind a real HTTP server on loopback, in the test's own loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from api.server.protocol import Server, server
from pipeline.settings import Settings

DEADLINE_S = 10


@asynccontextmanager
async def serving(
    app: FastAPI, settings: Settings, *, is_open: bool = False
) -> AsyncIterator[tuple[Server, str]]:
    """The server and its address. `settings.api_port` 0 takes a free port. `is_open`: somebody else
    has opened the services of the application, and closes them."""
    running = server(app, settings)
    if is_open:
        running.config.lifespan = "off"
    task = asyncio.create_task(running.serve())
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not running.started:
                assert not task.done(), "the server could not start"
                await asyncio.sleep(0.005)
        [listener] = running.servers
        host, port = listener.sockets[0].getsockname()[:2]
        yield running, f"http://{host}:{port}"
    finally:
        running.should_exit = True
        await asyncio.wait_for(task, DEADLINE_S)
