"""Calls through a real HAProxy of deployments without a replica: a server of ours takes them on."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from pipeline.adapters.http.resolving import Rules
from pipeline.adapters.http.streaming import StreamingHttp
from pipeline.adapters.store.store import Store
from pipeline.deployments.activation import Activation
from pipeline.deployments.service import Deployments
from pipeline.gateway.routing import PROOF
from pipeline.records.kernel import now
from pipeline.settings import Settings
from schemas.access import Principal, Role
from schemas.container import Container
from schemas.deployment import Deployment, Slot
from schemas.states import DeploymentStatus
from tests.connected.gateway.conftest import KEY, Rig, a_rig, token
from tests.support.http.front import Front, application, front
from tests.support.http.raw_server import saying
from tests.support.http.raw_server import serving as talking
from tests.support.http.serving import serving
from tests.support.models.upstreams import upstream
from tests.support.systems.services import Services
from tests.support.tenants import principal
from tests.support.waiting import eventually

MIB = 1024 * 1024


class Activating:
    """The rig, with the server behind its gateway."""

    def __init__(self, rig: Rig, app: FastAPI, fake: Front, url: str) -> None:
        self.rig = rig
        self.app = app
        self.fake = fake
        self.url = url

    async def resting(self, **values: Any) -> Deployment:
        """One that the gateway knows."""
        given = {"replicas": 0, "status": DeploymentStatus.SCALED_DOWN, "idle_s": 100}
        made = await self.rig.deployment(**given | values)
        await self.rig.gateway.look()
        return made

    async def demanded(self, deployment: Deployment) -> Deployment:
        async def is_wanted() -> bool:
            return (await self.record(deployment)).replicas == 1

        await eventually(is_wanted)
        return await self.record(deployment)

    async def record(self, deployment: Deployment) -> Deployment:
        return await self.rig.store.get(Deployment, deployment.uuid, org=deployment.org)

    async def replica(self, of: Deployment, server: Any) -> Container:
        """One is ready, of which the gateway has not heard yet."""
        made = await self.rig.replica(of, server)
        slots = [Slot(number=1, template="hash-1").model_dump()]
        await self.rig.amend(Deployment, of.uuid, slots=slots, replicas=1)
        self.fake.log.happen("deployed", org=of.org, resource="deployment", id=of.uuid)
        return made


@pytest.fixture
async def activating(store: Store, services: Services) -> AsyncIterator[Activating]:
    settings = Settings(signing_key=KEY, api_port=0, activation_waiting_max=1)  # type: ignore[arg-type]
    async with (
        front(settings) as fake,
        StreamingHttp.open(Rules(allow_local=True)) as http,
        application(fake) as app,
        serving(app, settings) as (_, url),
        a_rig(store, services, activators=[url.removeprefix("http://")]) as rig,
    ):

        async def authenticate(header: str | None) -> Principal:
            assert header is not None
            return principal("acme", Role.MEMBER)

        fake.access.authenticate = authenticate  # type: ignore[method-assign]
        fake.deployments.service = Deployments(rig.records, None)  # type: ignore[arg-type]
        fake.deployments.activation = Activation(rig.records, http, settings)
        yield Activating(rig, app, fake, url)


async def test_a_call_waits_for_the_first_replica_and_goes_on_as_it_came(
    activating: Activating,
) -> None:
    made = await activating.resting()
    headers = {"X-Own": "1", PROOF: "forged", "Host": f"{made.slug}.models.test"}
    by_path = asyncio.create_task(activating.rig.call(f"/{made.slug}/a%2Fb/c?x=%20y"))
    wanted = await activating.demanded(made)
    assert wanted.status is DeploymentStatus.DEPLOYING
    async with upstream("one") as one:
        await activating.replica(made, one)
        assert (await by_path).text == "one /a%2Fb/c?x=%20y"
        by_host = await activating.rig.call("/a", headers=headers)
        assert by_host.text == "one /a"
        first, second = (head.decode().lower() for head in one.heads)
        assert f"x-forwarded-prefix: /{made.slug}\r\n" in first
        assert f"host: {made.slug}.models.test\r\n" in second
        assert "x-own: 1" in second
        assert not any(word in first + second for word in ("authorization", "x-modelyard"))
        await activating.rig.gateway.look()
        assert (await activating.rig.call(f"/{made.slug}/")).text == "one /"
    assert "x-forwarded-prefix" not in second


async def test_what_it_answers_flows_piece_by_piece(activating: Activating) -> None:
    made = await activating.resting()
    async with upstream("one") as one:
        await activating.replica(made, one)
        headers = {"Authorization": f"Bearer {token()}"}
        path = f"/{made.slug}/events"
        async with activating.rig.http.stream("GET", path, headers=headers) as answer:
            assert answer.headers["content-type"] == "text/event-stream"
            pieces = answer.aiter_text()
            assert await anext(pieces) == "data: 1\n\n"
            one.hold.set()
            assert await anext(pieces) == "data: 2\n\n"


async def test_one_too_many_is_refused_and_who_leaves_makes_room(activating: Activating) -> None:
    made = await activating.resting()
    first = asyncio.create_task(
        activating.rig.call(f"/{made.slug}/", method="POST", content=b"x" * 1000)
    )
    await activating.demanded(made)
    refused = await activating.rig.call(f"/{made.slug}/")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert refused.json()["code"] == "overloaded"
    first.cancel()
    await asyncio.wait([first])
    activation: Activation = activating.fake.deployments.activation
    await eventually(lambda: activation._waiting == 0)
    async with upstream("one") as one:
        await activating.replica(made, one)
        assert (await activating.rig.call(f"/{made.slug}/")).text == "one /"
        assert len(one.asked) == 1, "who left is asked for nothing"


@asynccontextmanager
async def upgrading(
    activating: Activating, deployment: Deployment, early: bytes = b""
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A caller that asks for a websocket, and sends `early` before it is answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", activating.rig.piece.port)
    head = (
        f"GET /{deployment.slug}/ws?x=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {'A' * 22}==\r\nAuthorization: Bearer {token()}\r\n\r\n"
    )
    with closing(writer):
        writer.write(head.encode() + early)
        yield reader, writer


async def test_a_websocket_waits_for_the_first_replica_and_is_passed_on_both_ways(
    activating: Activating,
) -> None:
    made = await activating.resting()
    async with upgrading(activating, made, b"early ") as (reader, writer):
        await activating.demanded(made)
        async with upstream("one") as one:
            await activating.replica(made, one)
            answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            assert answer.startswith("http/1.1 101 ")
            assert "upgrade: websocket\r\n" in answer
            assert await reader.readexactly(6) == b"early "
            sent = bytes(range(256)) * 4096
            writer.write(sent)
            assert await reader.readexactly(len(sent)) == sent
            (head,) = (head.decode().lower() for head in one.heads)
            assert head.startswith("get /ws?x=1 http/1.1\r\n")
            assert "authorization" not in head
            writer.write_eof()
            assert await reader.read() == b""
    activation: Activation = activating.fake.deployments.activation
    assert activation._waiting == 0


async def test_a_websocket_ends_with_its_replica_and_with_the_server(
    activating: Activating,
) -> None:
    made = await activating.resting()
    async with upstream("one") as one:
        await activating.replica(made, one)
        async with upgrading(activating, made) as (reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            activating.app.state.draining.set()
            assert await reader.read() == b""
            activating.app.state.draining.clear()
        async with upgrading(activating, made) as (reader, _):
            await reader.readuntil(b"\r\n\r\n")
            one.close()
            assert await reader.read() == b""


async def test_a_websocket_that_the_replica_refuses_is_answered_as_it_says(
    activating: Activating,
) -> None:
    made = await activating.resting()
    refusal = b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 3\r\n\r\nno!"
    async with talking(saying(refusal)) as server:
        await activating.replica(made, server)
        async with upgrading(activating, made) as (reader, writer):
            answer = (await reader.readuntil(b"\r\n\r\n")).decode()
            assert answer.startswith("HTTP/1.1 426 ")
            assert await reader.readexactly(3) == b"no!"
            # The connection speaks HTTP still, and nothing of what follows is passed on unseen.
            writer.write(b"GET /nobody/ HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 401 ")


async def test_only_the_gateway_may_ask_and_only_for_ones_own(activating: Activating) -> None:
    made = await activating.resting()
    async with httpx.AsyncClient(base_url=activating.url, trust_env=False, timeout=30) as direct:
        for proof in ({}, {PROOF: "forged"}):
            headers = {"Authorization": f"Bearer {token()}"} | proof
            answer = await direct.get(f"/activator/{made.slug}/", headers=headers)
            assert answer.status_code == 404
    theirs = await activating.resting(name="theirs", org="other")
    answer = await activating.rig.call(f"/{theirs.slug}/")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert (await activating.record(theirs)).replicas == 0
    assert (await activating.record(made)).replicas == 0


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def test_a_body_of_any_size_flows_through_little_memory(activating: Activating) -> None:
    """Client, server and replica are all in this process."""
    made = await activating.resting()
    peak = before = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal peak
        await reader.readuntil(b"\r\n\r\n")
        left = 192 * MIB
        while left:
            left -= len(await reader.read(256 * 1024))
            peak = max(peak, resident_bytes())
        writer.write(b"HTTP/1.1 201 Made\r\nContent-Length: 4\r\n\r\ndone")

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(192):
            yield b"x" * MIB

    async with talking(talk) as server:
        headers = {"Content-Length": str(192 * MIB)}
        call = activating.rig.call(
            f"/{made.slug}/", method="PUT", content=pieces(), headers=headers
        )
        asked = asyncio.create_task(call)
        await activating.demanded(made)
        before = resident_bytes()
        await activating.replica(made, server)
        answer = await asked
    assert (answer.status_code, answer.text) == (201, "done")
    assert peak - before < 48 * MIB


async def test_what_is_under_way_at_the_gateway_is_use(activating: Activating) -> None:
    made = await activating.resting(replicas=1, status=DeploymentStatus.DEPLOYED)
    async with upstream("one") as one:
        await activating.rig.replica(made, one)
        await activating.rig.gateway.look()
        assert (await activating.record(made)).idle_at is None
        slow = asyncio.create_task(activating.rig.call(f"/{made.slug}/slow"))
        await eventually(lambda: "GET /slow" in one.asked)
        await activating.rig.gateway.look()
        known = await activating.record(made)
        assert known.idle_at is not None
        assert known.idle_at > now()
        assert known.revision == made.revision, "no change of anybody loses its race to that"
        one.hold.set()
        assert (await slow).status_code == 200
