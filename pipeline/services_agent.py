"""The composition root of the agent beside one engine."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from pipeline.adapters import gpus
from pipeline.adapters.engine import DockerEngine
from pipeline.adapters.http_guard import GuardedHttp, Limits
from pipeline.adapters.http_names import Rules
from pipeline.core import records
from pipeline.core.agent import Agent
from pipeline.core.registration import node_id
from pipeline.core.secrets import Secrets
from pipeline.services_ground import open_ground
from pipeline.settings import Settings


@asynccontextmanager
async def open_agent(settings: Settings) -> AsyncIterator[Agent]:
    """The agent of this machine's engine. The node's identity follows from its name."""
    name = settings.node_name or socket.gethostname()
    uuid = node_id(settings.installation, name)
    async with AsyncExitStack() as stack:
        store, bus, outbox = await open_ground(stack, settings, f"agent-{name}")
        engine = await stack.enter_async_context(DockerEngine.open(settings.docker_host))
        http = await stack.enter_async_context(GuardedHttp.open(Rules(allow_local=True)))
        agent = Agent.build(
            settings,
            store,
            bus,
            outbox,
            engine,
            gpus.select(settings),
            Secrets(store, outbox, settings, records.now),
            partial(_ask, http),
            name=name,
            uuid=uuid,
            clock=records.now,
        )
        stack.push_async_callback(agent.close)
        yield agent


async def _ask(http: GuardedHttp, url: str, timeout_s: float) -> int:
    """What a container's health endpoint answers. Its redirects are not followed."""
    limits = Limits(total_s=timeout_s, body_max_bytes=1024, redirects=0)
    return (await http.request("GET", url, limits=limits)).status
