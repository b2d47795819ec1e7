"""API, worker and agent in the process of the test, over real services: a whole system for tests
that kill nothing, without the seconds that processes take to start."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from api.app import create
from pipeline import topology
from pipeline.adapters.bus.client import Bus
from pipeline.adapters.engine.docker import DockerEngine
from pipeline.agent.service import Agent
from pipeline.bootstrap.agent import open_agent
from pipeline.bootstrap.control_plane import Services
from pipeline.containers import engine_plan
from pipeline.ports import EngineContainer
from pipeline.settings import Settings
from tests.support.http.api_process import settings
from tests.support.registries.registry_door import client
from tests.support.tenants import an_organisation
from tests.support.waiting import eventually
from workers.app import build
from workers.control_plane import stages
from workers.stages import orders

BRISK: dict[str, Any] = {
    "heartbeat_interval_s": 0.2,
    "reconcile_interval_s": 1,
    "restart_backoff_s": 0.2,
    "stop_grace_s": 2,
}


@dataclass(frozen=True, slots=True)
class WholeYard:
    settings: Settings
    app: FastAPI
    services: Services
    agent: Agent
    engine: DockerEngine
    http: httpx.AsyncClient
    """Of an administrator of `org`."""
    org: str

    async def image(self, reference: str, **spec: Any) -> dict[str, Any]:
        """Once it is READY or FAILED."""
        body = {"reference": reference, **spec}
        answer = await self.http.post("/yard/v1/images", json=body, params={"wait": 20})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def run(self, image: str, **spec: Any) -> dict[str, Any]:
        """Once it runs, or will not."""
        body = {"image": image, **spec}
        answer = await self.http.post("/yard/v1/containers", json=body, params={"wait": 30})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def until(
        self, path: str, true: Callable[[dict[str, Any]], bool], seconds: float = 20
    ) -> dict[str, Any]:
        latest: dict[str, Any] = {}

        async def holds() -> bool:
            nonlocal latest
            latest = (await self.http.get(f"/yard/v1{path}")).json()
            return true(latest)

        try:
            await eventually(holds, timeout_s=seconds)
        except AssertionError as error:
            raise AssertionError(f"{path} is {latest}") from error
        return latest

    async def engine_containers(self) -> list[EngineContainer]:
        wanted = {engine_plan.INSTALLATION: self.settings.installation}
        return list(await self.engine.list(wanted))


@asynccontextmanager
async def whole_yard(
    nats_url: str, mongo_url: str, docker_host: str, **values: Any
) -> AsyncIterator[WholeYard]:
    """On a broker of its own; all that it leaves on the engine is removed."""
    installation = f"test-{uuid.uuid4().hex[:12]}"
    given = settings(
        nats_url,
        mongo_url,
        **{**BRISK, "docker_host": docker_host, "installation": installation, **values},
    )
    async with AsyncExitStack() as stack:
        app = create(given)
        await stack.enter_async_context(app.router.lifespan_context(app))
        services: Services = app.state.services
        await stack.enter_async_context(_working(services))
        engine = await stack.enter_async_context(DockerEngine.open(docker_host))
        agent, bus = await stack.enter_async_context(open_agent(given))
        stack.push_async_callback(_tidy, engine, installation)
        await stack.enter_async_context(_looking_after(agent, bus))
        org = await an_organisation(services)
        http = await stack.enter_async_context(await client(app, org))
        yard = WholeYard(given, app, services, agent, engine, http, org)
        await yard.until("/nodes", lambda page: [n["status"] for n in page["items"]] == ["READY"])
        yield yard


@asynccontextmanager
async def _working(services: Services) -> AsyncIterator[None]:
    app = build(services.bus, stages(services), registry=CollectorRegistry(), drain_s=5)
    await app.start()
    try:
        yield
    finally:
        await app.stop()


@asynccontextmanager
async def _looking_after(agent: Agent, bus: Bus) -> AsyncIterator[None]:
    await bus.prepare(stages=(topology.node_stage(agent.uuid),))
    register = partial(orders.register, agent=agent)
    app = build(bus, [register], registry=CollectorRegistry(), drain_s=5)
    async with AsyncExitStack() as stack:
        for name, answer in agent.services.items():
            subject = topology.agent_service(agent.uuid, name)
            await stack.enter_async_context(bus.serve_stream(subject, answer))
        running = asyncio.create_task(agent.run())
        await app.start()
        try:
            yield
        finally:
            await app.stop()
            running.cancel()
            await asyncio.wait([running])


async def _tidy(engine: DockerEngine, installation: str) -> None:
    for left in await engine.list({engine_plan.INSTALLATION: installation}):
        await engine.remove(left.id)
